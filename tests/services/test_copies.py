"""Smaller copies: right size and format, made once, bounded."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from PIL import Image

from services.copies import FORMATS, Copies


def png(width: int = 200, height: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(200, 100), (50, 25), (17, 8)])
def test_size_and_format(form, width, height):
    copy = Copies().get(uuid4(), png, form=form, width=width)
    image = Image.open(io.BytesIO(copy))
    image.load()
    assert (image.format, image.size) == (form.upper(), (width, height))


def test_those_who_ask_for_one_copy_together_have_it_made_once():
    read: list[int] = []
    together = threading.Barrier(8)

    def source() -> bytes:
        read.append(1)
        return png(1000, 1000)

    copies, image_id = Copies(at_a_time=1), uuid4()

    def ask(_: int) -> bytes:
        together.wait(10)
        return copies.get(image_id, source, form="webp", width=500)

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(ask, range(8)))
    assert len(read) == 1
    assert len(set(map(id, made))) == 1


def test_a_copy_is_made_once():
    read: list[int] = []

    def source() -> bytes:
        read.append(1)
        return png()

    copies, image_id = Copies(), uuid4()
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

    copies, image_id = Copies(cache_bytes=10), uuid4()
    for _ in range(2):
        assert copies.get(image_id, source, form="jpeg", width=50)
    assert len(read) == 2
