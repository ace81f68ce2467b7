"""What is learned from the sizes that came back."""

from __future__ import annotations

import pytest

from sd_client.limits import Limits, after_painting, png_size
from tests.sd_client.servers import encoded_image

#: stable-diffusion.cpp's server and KoboldCpp before their first picture.
NEW = Limits(size_step=8, sure_size_step=64)


@pytest.mark.parametrize(
    ("asked", "painted", "steps"),
    [
        ((512, 512), (512, 512), (8, 64)),  # tells nothing
        ((72, 64), (72, 64), (8, 8)),
        ((80, 64), (80, 64), (8, 16)),
        ((96, 64), (96, 64), (8, 32)),
        ((72, 64), (128, 64), (64, 64)),  # up
        ((72, 64), (80, 64), (16, 64)),
        ((72, 72), (64, 64), (16, 64)),  # down: 16 explains it as well as 64 does
        ((112, 64), (64, 64), (64, 64)),
    ],
)
def test_steps(asked: tuple[int, int], painted: tuple[int, int], steps: tuple[int, int]) -> None:
    learned = after_painting(NEW, asked=asked, painted=painted)
    assert learned == Limits(size_step=steps[0], sure_size_step=steps[1])


@pytest.mark.parametrize("step", [8, 16, 32, 64])
@pytest.mark.parametrize("up", [True, False])
def test_a_server_is_known_after_a_few_pictures_and_nothing_that_it_paints_is_refused(step: int, up: bool) -> None:
    limits, changed = NEW, 0
    for side in (*range(64, 300, 8), *range(64, 300, 8)):
        if not limits.allow(width=side, height=64, steps=1, cfg_scale=1):
            assert side % step
            continue
        painted = -(-side // step) * step if up else side // step * step
        changed += painted != side
        learned = after_painting(limits, asked=(side, 64), painted=(painted, 64))
        assert learned is not None
        limits = learned
    assert (limits.size_step, limits.sure_size_step) == (step, step)
    assert changed <= 3


def test_an_area_is_narrowed_down() -> None:
    first = after_painting(NEW, asked=(1536, 1536), painted=(832, 832))
    assert first == Limits(size_step=8, sure_size_step=64, too_many_pixels=1536**2, most_pixels=832**2)
    second = after_painting(first, asked=(1024, 1024), painted=(832, 832))
    assert second is not None
    assert (second.too_many_pixels, second.most_pixels) == (1024**2, 832**2)
    third = after_painting(second, asked=(1024, 640), painted=(1024, 640))
    assert third == second
    larger = after_painting(second, asked=(896, 832), painted=(896, 832))
    assert larger is not None
    assert larger.most_pixels == 896 * 832
    assert not second.allow(width=2048, height=512, steps=1, cfg_scale=1)
    assert second.allow(width=1024, height=640, steps=1, cfg_scale=1)


@pytest.mark.parametrize("painted", [(40, 32), (512, 768), (768, 512), (64, 512), (1024, 1024)])
def test_nothing_is_learned_from_what_no_limit_explains(painted: tuple[int, int]) -> None:
    assert after_painting(NEW, asked=(512, 512), painted=painted) is None


def test_the_size_in_a_header() -> None:
    assert png_size(encoded_image((72, 40))) == (72, 40)
    assert png_size(encoded_image((72, 40), file_format="JPEG")) is None
    assert png_size(b"") is None
