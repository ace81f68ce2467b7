"""Smaller copies: right size and format, made once, bounded."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from PIL import Image

from sd_client.errors import QueueTimeoutError
from services.thumbnails import FORMATS, Thumbnails
from tests.services import colour_profiles


def png(width: int = 200, height: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(200, 100), (50, 25), (17, 8)])
def test_size_and_format(form, width, height):
    copy = Thumbnails().get(uuid4(), png, form=form, width=width)
    image = Image.open(io.BytesIO(copy))
    image.load()
    assert (image.format, image.size) == (form.upper(), (width, height))


def test_those_who_ask_for_one_copy_together_have_it_made_once():
    read: list[int] = []
    together = threading.Barrier(8)

    def source() -> bytes:
        read.append(1)
        return png(1000, 1000)

    copies, image_id = Thumbnails(at_a_time=1), uuid4()

    def ask(_: int) -> bytes:
        together.wait(10)
        return copies.get(image_id, source, form="webp", width=500)

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(ask, range(8)))
    assert len(read) == 1
    assert len(set(map(id, made))) == 1


def test_who_waits_for_others_copies_waits_not_for_ever_and_not_without_a_caller():
    class GoneError(Exception):
        pass

    def gone() -> None:
        raise GoneError

    begun, enough = threading.Event(), threading.Event()

    def slow() -> bytes:
        begun.set()
        assert enough.wait(60)
        return png()

    copies = Thumbnails(at_a_time=1)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(copies.get, uuid4(), slow, form="png", width=50)
        assert begun.wait(60)
        with pytest.raises(QueueTimeoutError):
            copies.get(uuid4(), png, form="png", width=50, wait_s=0.05)
        with pytest.raises(GoneError):
            copies.get(uuid4(), png, form="png", width=50, check=gone)
        enough.set()
        assert first.result()
    assert copies.get(uuid4(), png, form="png", width=50, wait_s=0.0)


def test_a_copy_is_made_once():
    read: list[int] = []

    def source() -> bytes:
        read.append(1)
        return png()

    copies, image_id = Thumbnails(), uuid4()
    first = copies.get(image_id, source, form="webp", width=50)
    assert copies.get(image_id, source, form="webp", width=50) is first
    assert len(read) == 1
    copies.get(image_id, source, form="webp", width=60)
    copies.get(uuid4(), source, form="webp", width=50)
    assert len(read) == 3


def test_the_cache_is_bounded_and_works_without_room():
    read: list[int] = []

    def source() -> bytes:
        read.append(1)
        return png()

    copies, image_id = Thumbnails(cache_bytes=10), uuid4()
    for _ in range(2):
        assert copies.get(image_id, source, form="jpeg", width=50)
    assert len(read) == 2


def half_hidden(hidden: tuple[int, int, int], mode: str = "RGBA") -> bytes:
    """The left half is opaque blue, the right half hides a colour."""
    image = Image.new("RGBA", (64, 32), (0, 0, 255, 255))
    image.paste((*hidden, 0), (32, 0, 64, 32))
    if mode == "P":
        image = Image.new("P", (64, 32), 0)
        image.putpalette([0, 0, 255, *hidden])
        image.paste(1, (32, 0, 64, 32))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **({"transparency": 1} if mode == "P" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGBA", "P"])
@pytest.mark.parametrize("width", [16, 17, 24, 63, 64])
@pytest.mark.parametrize("form", FORMATS)
def test_hidden_colours_show_nowhere(form, width, mode):
    red, green = (
        Thumbnails().get(uuid4(), lambda hidden=hidden: half_hidden(hidden, mode), form=form, width=width)
        for hidden in ((255, 0, 0), (0, 255, 0))
    )
    assert red == green
    image = Image.open(io.BytesIO(red))
    assert image.mode == ("RGB" if form == "jpeg" else "RGBA")
    right = image.getpixel((width - 2, 4))
    if form == "jpeg":
        assert min(right) > 240, "it lies over white"
    else:
        assert (image.getpixel((2, 4))[3], right[3]) == (255, 0)


def test_a_copy_of_a_picture_with_a_profile_is_srgb():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 120, 100)).save(buffer, "PNG", icc_profile=colour_profiles.P3)
    for form in FORMATS:
        image = Image.open(io.BytesIO(Thumbnails().get(uuid4(), buffer.getvalue, form=form, width=16)))
        assert not image.info.get("icc_profile")
        expected = colour_profiles.in_srgb((200, 120, 100), colour_profiles.P3_TO_SRGB, colour_profiles.srgb_light)
        assert all(abs(a - b) <= 4 for a, b in zip(image.convert("RGB").getpixel((8, 8)), expected, strict=True))
