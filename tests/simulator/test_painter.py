from dataclasses import replace

import pytest
from PIL import ImageChops

from simulator.painter import Scene, paint

SCENE = Scene(
    prompt="a lighthouse",
    negative_prompt="",
    seed=1,
    steps=20,
    cfg_scale=7.0,
    sampler="Euler",
    model="model",
    width=96,
    height=64,
)


def test_the_same_scene_has_the_same_pixels():
    assert paint(SCENE).tobytes() == paint(SCENE).tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a city"},
        {"negative_prompt": "blurry"},
        {"seed": 2},
        {"steps": 21},
        {"cfg_scale": 7.5},
        {"sampler": "DDIM"},
        {"model": "other"},
        {"variation": (3, 0.5)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_in_a_scene_shows_in_the_picture(change):
    assert paint(replace(SCENE, **change)).tobytes() != paint(SCENE).tobytes()


@pytest.mark.parametrize(
    "prompt", ["the sea", "a forest", "city at night", "portrait of a woman", "", "\ud800", "猫 🐱"]
)
@pytest.mark.parametrize("size", [(8, 8), (64, 64), (8, 200), (512, 64)])
def test_any_motif_in_any_size(prompt, size):
    picture = paint(replace(SCENE, prompt=prompt, width=size[0], height=size[1]))
    assert (picture.size, picture.mode) == (size, "RGB")


def test_prompts_and_seeds_differ_at_a_glance():
    def distance(one, other):
        histogram = ImageChops.difference(paint(one), paint(other)).convert("L").histogram()
        return sum(value * count for value, count in enumerate(histogram)) / sum(histogram)

    assert distance(SCENE, replace(SCENE, prompt="city at night")) > 15
    assert distance(SCENE, replace(SCENE, seed=2)) > 4


def test_what_is_half_done_is_noisier():
    def colours(done):
        return len(paint(SCENE, done=done).getcolors(maxcolors=1 << 24))

    assert colours(0.3) > colours(1.0)
    assert paint(SCENE, done=0.3).tobytes() != paint(SCENE, done=0.6).tobytes()


def test_the_word_is_written_into_the_lower_right_corner():
    big = replace(SCENE, width=256, height=256)
    box = ImageChops.difference(paint(big), paint(big, stamped=False)).getbbox()
    assert box is not None
    assert box[0] > 128
    assert box[1] > 200
