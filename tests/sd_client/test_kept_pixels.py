"""Decoded pixels are kept within a bound, and only as long as somebody may need them."""

from __future__ import annotations

from PIL import Image

from sd_client.kept_pixels import KeptPixels, Room

SIZE = (10, 10)


def test_what_is_kept_is_the_very_image_until_it_is_taken() -> None:
    image = Image.new("RGB", SIZE)
    kept = KeptPixels(image, Room(1000))
    assert kept.image is image
    assert kept.take() is image
    assert (kept.image, kept.take()) == (None, None)


def test_there_is_room_for_as_many_bytes_as_pillow_holds() -> None:
    room = Room(500)
    colours, second = (KeptPixels(Image.new("RGB", SIZE), room) for _ in range(2))
    grey, another = (KeptPixels(Image.new("L", SIZE), room) for _ in range(2))
    assert [kept.image is not None for kept in (colours, second, grey, another)] == [True, False, True, False]


def test_room_is_given_back_once() -> None:
    room = Room(400)
    first = KeptPixels(Image.new("RGB", SIZE), room)
    refused = KeptPixels(Image.new("RGB", SIZE), room)
    refused.take()
    assert KeptPixels(Image.new("RGB", SIZE), room).image is None
    first.take()
    first.take()
    second = KeptPixels(Image.new("RGB", SIZE), room)
    assert second.image is not None
    assert KeptPixels(Image.new("RGB", SIZE), room).image is None


def test_whoever_drops_it_gives_its_room_back() -> None:
    room = Room(400)
    for _ in range(3):
        kept = KeptPixels(Image.new("RGB", SIZE), room)
        assert kept.image is not None
        del kept
