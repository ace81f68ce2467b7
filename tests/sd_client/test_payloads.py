"""The WebUI's JSON: exactly what is sent, and what of an answer is believed."""

from __future__ import annotations

import json
from dataclasses import Field, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_client.errors import InvalidAnswerError, LimitError
from sd_client.limits import Limits
from sd_client.matching import Match
from sd_client.models import DUMMY_HASH, Checkpoint, GenerationParams, Inpainting, UnchangedFields
from sd_client.payloads import payload, read_answer
from sd_client.progress import Progress, stop_reason
from sd_client.result import read_object
from sd_client.samplers import Spelling
from tests.sd_client.jobs import CAPABILITIES, CHECKPOINT, INIT_IMAGE, INPAINTING, MASK, job
from tests.sd_client.servers import encoded_image, in_base64

DEFAULT = Spelling()
AS_LISTED = Checkpoint(title="sd.safetensors [0123456789]", model_name="sd")
PNG = encoded_image()
PICTURE = in_base64(PNG)

TXT2IMG = {
    "prompt": "a cat",
    "negative_prompt": "",
    "steps": 20,
    "cfg_scale": 7.5,
    "width": 64,
    "height": 64,
    "seed": 42,
    "batch_size": 1,
    "n_iter": 1,
    "override_settings": {"sd_model_checkpoint": "sd.safetensors [0123456789]"},
    "override_settings_restore_afterwards": False,
    "send_images": True,
    "save_images": False,
    "force_task_id": "task-1",
}
IMG2IMG = {
    **TXT2IMG,
    "init_images": [in_base64(INIT_IMAGE)],
    "denoising_strength": 0.75,
    "resize_mode": 0,
    "include_init_images": False,
}
INPAINT = {
    **IMG2IMG,
    "mask": in_base64(MASK),
    "mask_blur": 4,
    "inpainting_fill": 1,
    "inpaint_full_res": False,
    "inpaint_full_res_padding": 32,
    "inpainting_mask_invert": 0,
}

# --- What is sent ---------------------------------------------------------------------------------------------------


def sent(params: GenerationParams, spelling: Spelling = DEFAULT) -> Any:
    matched = Match(checkpoint=AS_LISTED, spelling=spelling)
    body = payload(params, CAPABILITIES, matched, task_id="task-1")
    text = b"".join(body)
    assert len(text) == len(body)
    return json.loads(text)


@pytest.mark.parametrize("field", fields(UnchangedFields), ids=lambda field: field.name)
def test_each_field_that_goes_unchanged_is_sent(field: Field[Any]) -> None:
    params = job(init_image=INIT_IMAGE, strength=0.5)
    value = getattr(params, field.name)
    other = f"{value} too" if isinstance(value, str) else value * 2
    missing = f"{field.name} needs its name in sd_client/payloads.py"
    assert sent(params) != sent(replace(params, **{field.name: other})), missing


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (job(), TXT2IMG),
        (job(batch_size=4), {**TXT2IMG, "batch_size": 4}),
        (job(prompt='a "cat"\n\\ é 猫 😀'), {**TXT2IMG, "prompt": 'a "cat"\n\\ é 猫 😀'}),
        (job(seed=2**32 - 1), {**TXT2IMG, "seed": 2**32 - 1}),
        (job(init_image=INIT_IMAGE, strength=0.75), IMG2IMG),
        (job(init_image=INIT_IMAGE, strength=0.0), {**IMG2IMG, "denoising_strength": 0.0}),
        (job(init_image=INIT_IMAGE, strength=0.75, inpainting=INPAINTING), INPAINT),
    ],
)
def test_the_whole_payload(params: GenerationParams, expected: object) -> None:
    assert sent(params) == expected


@pytest.mark.parametrize(("fill", "number"), [("fill", 0), ("original", 1), ("noise", 2), ("nothing", 3)])
@pytest.mark.parametrize(("area", "full_res"), [("whole", False), ("masked", True)])
def test_the_words_of_inpainting(fill: Any, number: int, area: Any, full_res: bool) -> None:
    inpainting = Inpainting(mask=MASK, mask_blur=0, area=area, padding=0, fill=fill)
    body = sent(job(init_image=INIT_IMAGE, strength=0.9, inpainting=inpainting))
    assert (body["inpainting_fill"], body["inpaint_full_res"]) == (number, full_res)
    assert (body["mask_blur"], body["inpaint_full_res_padding"]) == (0, 0)


def test_what_is_turned_off_is_restored() -> None:
    params = job(init_image=INIT_IMAGE, strength=0.75, inpainting=INPAINTING)
    able = replace(CAPABILITIES, returns_masks=True)
    body = payload(params, able, Match(checkpoint=AS_LISTED, spelling=DEFAULT), task_id="task-1")
    told = json.loads(b"".join(body))
    assert told["override_settings"] == {
        "sd_model_checkpoint": AS_LISTED.title,
        "return_mask": False,
        "return_mask_composite": False,
    }
    assert told["override_settings_restore_afterwards"] is True


@pytest.mark.parametrize(
    ("spelling", "extra"),
    [
        (Spelling(), {}),
        (Spelling(sampler="Euler a"), {"sampler_name": "Euler a"}),
        (Spelling(scheduler="karras"), {"scheduler": "karras"}),
        (Spelling(sampler="dpm++2m", scheduler="karras"), {"sampler_name": "dpm++2m", "scheduler": "karras"}),
    ],
)
def test_the_sampler_is_sent_as_it_is_spelt(spelling: Spelling, extra: dict[str, str]) -> None:
    assert sent(job(), spelling) == {**TXT2IMG, **extra}


@given(
    prompt=st.text(st.characters(exclude_categories=("Cs",)), max_size=50),
    strength=st.floats(0, 1),
    cfg_scale=st.floats(1, 30),
    has_picture=st.booleans(),
    has_mask=st.booleans(),
)
def test_nothing_is_null_and_text_comes_through(
    prompt: str, strength: float, cfg_scale: float, has_picture: bool, has_mask: bool
) -> None:
    picture: dict[str, Any] = {"init_image": INIT_IMAGE, "strength": strength} if has_picture else {}
    if has_picture and has_mask:
        picture["inpainting"] = INPAINTING
    body = sent(job(prompt=prompt, cfg_scale=cfg_scale, **picture))
    assert None not in body.values()
    assert (body["prompt"], body["cfg_scale"]) == (prompt, cfg_scale)
    assert body.get("denoising_strength") == (strength if has_picture else None)


# --- What is believed -----------------------------------------------------------------------------------------------


def info(**changes: Any) -> dict[str, Any]:
    told = {
        "seed": 42,
        "all_seeds": [42],
        "infotexts": ["a cat\nSeed: 42"],
        "index_of_first_image": 0,
        "sampler_name": "Euler",
        "sd_model_name": "v1-5-pruned-emaonly",
        "sd_model_hash": "6ce0161689",
    }
    return {name: value for name, value in (told | changes).items() if value is not ...}


def answer(images: object = (PICTURE,), told: object = None) -> bytes:
    body = {"images": images, "parameters": {}, "info": json.dumps(info()) if told is None else told}
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


def read(body: bytes, params: GenerationParams | None = None, **kwargs: Any) -> Any:
    return read_answer(read_object(body), params or job(), **{"checkpoint": CHECKPOINT, "spelling": DEFAULT, **kwargs})


def test_one_image() -> None:
    (image,) = read(answer())
    assert (image.data, image.seed, image.infotext) == (PNG, 42, "a cat\nSeed: 42")


@pytest.mark.parametrize("told", [json.dumps(info()), info(), "", "  ", "{}", {}, None, "null", "[]", [], 5, ...])
def test_info_may_be_text_an_object_or_missing(told: object) -> None:
    body = answer(told=told) if told is not None else answer().replace(b'"info": "', b'"info": null, "x": "')
    (image,) = read(body)
    assert image.seed == 42
    assert image.infotext == ("a cat\nSeed: 42" if told and "Seed" in str(told) else None)


def test_a_batch_has_its_seeds_and_texts_in_order() -> None:
    others = [in_base64(encoded_image((8 * size, 8))) for size in (1, 2, 3)]
    told = info(all_seeds=[42, 43, 44], infotexts=["one", "two", "three"])
    images = read(answer(others, told), job(batch_size=3))
    assert [(in_base64(image.data), image.seed, image.infotext) for image in images] == [
        (others[0], 42, "one"),
        (others[1], 43, "two"),
        (others[2], 44, "three"),
    ]


def test_a_grid_in_front_is_left_out() -> None:
    grid, first, second = (in_base64(encoded_image((8 * size, 8))) for size in (2, 1, 3))
    told = info(all_seeds=[42, 43], infotexts=["grid", "one", "two"], index_of_first_image=1)
    images = read(answer([grid, first, second], told), job(batch_size=2))
    assert [(in_base64(image.data), image.seed, image.infotext) for image in images] == [
        (first, 42, "one"),
        (second, 43, "two"),
    ]


@pytest.mark.parametrize("extra", [[PICTURE], ["/home/someone/map.png"], [""], [None], [{"a": 1}]])
def test_what_extensions_append_is_left_out(extra: list[object]) -> None:
    assert len(read(answer([PICTURE, *extra]))) == 1


@pytest.mark.parametrize("index", [None, -1, 1, 7, "1", 0.0, [], ...])
def test_an_index_that_cannot_be_is_not_used(index: object) -> None:
    assert len(read(answer(told=info(index_of_first_image=index)))) == 1


@pytest.mark.parametrize("texts", [None, [], [None], [5], "text", ...])
def test_texts_may_be_missing(texts: object) -> None:
    assert read(answer(told=info(infotexts=texts)))[0].infotext is None


@pytest.mark.parametrize(
    ("seeds", "batch_size"), [([42], 1), ([42, 43], 1), ([], 1), (None, 2), (..., 2), ([42], 2), ([42, 43], 2)]
)
def test_seeds_are_known_also_where_they_are_not_told(seeds: object, batch_size: int) -> None:
    images = read(answer([PICTURE] * batch_size, info(all_seeds=seeds)), job(batch_size=batch_size))
    assert [image.seed for image in images] == [42, 43][:batch_size]


@pytest.mark.parametrize(("file_format", "prefix"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "x/y")])
@pytest.mark.parametrize("as_uri", [False, True])
def test_kinds_of_pictures(file_format: str, prefix: str, as_uri: bool) -> None:
    data = encoded_image((64, 64), file_format=file_format)
    text = f"data:{prefix};base64,{in_base64(data)}" if as_uri else in_base64(data)
    (image,) = read(answer([text]))
    assert image.data == data


CUT = in_base64(encoded_image((64, 64))[:-20])
GIF = in_base64(encoded_image((64, 64), file_format="GIF"))

BROKEN: list[tuple[str, bytes, str]] = [
    ("empty", b"", "not JSON"),
    ("html", b"<html>", "not JSON"),
    ("cut", answer()[:-5], "not JSON"),
    ("a list", b"[]", "not an object"),
    ("null", b"null", "not an object"),
    ("no images", answer(...), "no images"),
    ("images null", answer(None), "no images"),
    ("images text", answer(PICTURE), "no images"),
    ("too few", answer([]), "0 of 1 pictures"),
    ("info broken", answer(told="{'seed': 42}"), "info is not JSON"),
    ("KoboldCpp's failure", answer([""], ""), "no picture"),
    ("null for a picture", answer([None]), "no picture"),
    ("a number for a picture", answer([5]), "no picture"),
    ("an object for a picture", answer([{"a": 1}]), "no picture"),
    ("a path", answer(["/tmp/00001.png"]), "not base64"),
    ("no base64", answer(["%%%%"]), "not base64"),
    ("urlsafe base64", answer(["-_-_"]), "not base64"),
    ("base64 with a letter lost", answer([PICTURE[:-1]]), "not base64"),
    ("base64 in lines", answer([PICTURE[:60] + "\n" + PICTURE[60:]]), "not base64"),
    ("no ASCII", answer(["é" + PICTURE]), "not base64"),
    ("a prefix alone", answer(["data:image/png;base64,"]), "no picture"),
    ("a prefix without comma", answer(["data:image/png"]), "no picture"),
    ("a cut PNG", answer([CUT]), "cut off"),
    ("a GIF", answer([GIF]), "not a PNG, JPEG or WebP"),
    ("text", answer([in_base64(b"hello")]), "not a PNG, JPEG or WebP"),
    ("one seed for another", answer(told=info(all_seeds=[43])), "another seed"),
    ("a seed cut to int32", answer(told=info(all_seeds=[-1])), "another seed"),
    ("a seed as text", answer(told=info(all_seeds=["42"])), "another seed"),
]


@pytest.mark.parametrize(("body", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_no_result(body: bytes, message: str) -> None:
    with pytest.raises(InvalidAnswerError, match=message) as caught:
        read(body)
    assert PICTURE[:20] not in str(caught.value)


IDLE = Progress(fraction=0.0, job_timestamp="20261129120000")


@pytest.mark.parametrize(
    ("changes", "timestamp", "expected"),
    [
        ({}, "20261129120000", None),
        ({"interrupted": True}, "20261129120000", "interrupted"),
        ({"skipped": True}, "20261129120000", "skipped"),
        ({"interrupted": True, "skipped": True}, "20261129120000", "interrupted"),
        ({"interrupted": True}, None, "interrupted"),
        ({"interrupted": True, "job_timestamp": ""}, "20261129120000", "interrupted"),
        ({"interrupted": True}, "20261129115900", None),
        ({"interrupted": True, "running": True}, "20261129120000", None),
    ],
)
def test_who_ended_a_job(changes: dict[str, Any], timestamp: str | None, expected: str | None) -> None:
    assert stop_reason(replace(IDLE, **changes), info(job_timestamp=timestamp)) == expected


def test_an_interrupted_batch_is_no_result() -> None:
    """A1111 answers 200 with the images that were begun, and the seeds of all."""
    with pytest.raises(InvalidAnswerError, match="1 of 3 pictures"):
        read(answer([PICTURE], info(all_seeds=[42, 43, 44])), job(batch_size=3))


def test_every_picture_of_a_batch_is_looked_at() -> None:
    with pytest.raises(InvalidAnswerError, match="cut off"):
        read(answer([PICTURE, CUT], info(all_seeds=[42, 43])), job(batch_size=2))


# --- The model ------------------------------------------------------------------------------------------------------


def checkpoint(title: str, sha: str | None = None, filename: str = "") -> Checkpoint:
    model_name = title.partition(" ")[0].removesuffix(".safetensors").replace("/", "_")
    return Checkpoint(title=title, model_name=model_name, hash=sha, filename=filename)


HASHED = checkpoint("sub/dream_8.safetensors [8b32423b5e]", "8b32423b5e", "dream_8.safetensors")
UNHASHED = checkpoint("sub/dream_8.safetensors", None, "dream_8.safetensors")
DUMMY = checkpoint("dream_8", DUMMY_HASH, "dream_8.safetensors")

MODELS: list[tuple[Checkpoint, object, object, bool]] = [
    # told name, told hash, whether it is the same
    (HASHED, "dream_8", "8b32423b5e", True),
    (HASHED, "renamed", "8b32423b5e", True),
    (HASHED, "dream_8", "8B32423B5E", True),
    (HASHED, "dream_8", "8b32423b5e1419e668181d46080ced292", True),
    (HASHED, "dream_8", "6ce0161689", False),
    (HASHED, "dream_8", None, True),
    (HASHED, "dream_8", "", True),
    (HASHED, "other", None, False),
    (HASHED, None, None, True),
    (HASHED, "", "", True),
    (HASHED, 5, 5, True),
    (UNHASHED, "dream_8", "8b32423b5e", True),
    (UNHASHED, "other", "8b32423b5e", False),
    (UNHASHED, "sub_dream_8", None, True),
    (UNHASHED, "DREAM_8", None, True),
    (UNHASHED, "dream_8.safetensors", None, True),
    (UNHASHED, "dream_8.ckpt", None, True),
    (UNHASHED, "sub/dream_8.safetensors [8b32423b5e]", None, True),
    (UNHASHED, "sub\\dream_8.safetensors", None, True),
    (UNHASHED, "dream_80", None, False),
    (UNHASHED, "dream", None, False),
    (DUMMY, "dream_8.safetensors", None, True),
    (DUMMY, "other.gguf", None, False),
    (DUMMY, "dream_8", DUMMY_HASH, True),
    (DUMMY, "other", DUMMY_HASH, False),
    (checkpoint("sd_xl_base_1.0.safetensors"), "sd_xl_base_1.0", None, True),
    (checkpoint("sd_xl_base_1.0.safetensors"), "sd_xl_base_1", None, False),
]


@pytest.mark.parametrize(("asked", "name", "sha", "same"), MODELS)
def test_the_model_told_is_the_model_asked_for(asked: Checkpoint, name: object, sha: object, same: bool) -> None:
    body = answer(told=info(sd_model_name=name, sd_model_hash=sha))
    if same:
        assert len(read(body, checkpoint=asked)) == 1
    else:
        with pytest.raises(InvalidAnswerError, match="another model"):
            read(body, checkpoint=asked)


# --- The sampler ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "told", "same"),
    [
        (None, "DPM++ 2M", True),
        (None, "NONE", True),
        ("Euler a", "Euler a", True),
        ("euler_a", "Euler a", True),
        ("Euler a", "Euler", False),
        ("Euler a", "DPM++ 2M", False),
        ("Euler a", None, True),
        ("Euler a", "", True),
        ("Euler a", ..., True),
        ("Euler a", 5, True),
        ("default", "NONE", True),
        ("euler_a", "NONE", False),
        ("DPM++ 2M Karras", "DPM++ 2M Karras", True),
    ],
)
def test_the_sampler_told_is_the_sampler_sent(asked: str | None, told: object, same: bool) -> None:
    body = answer(told=info(sampler_name=told))
    if same:
        assert len(read(body, spelling=Spelling(sampler=asked))) == 1
    else:
        with pytest.raises(InvalidAnswerError, match="another sampler"):
            read(body, spelling=Spelling(sampler=asked))


@pytest.mark.parametrize(
    ("sampler", "aliases", "told", "same"),
    [
        ("DDIM", ("ddim_trailing", "ddim"), "ddim_trailing", True),
        ("DDIM", ("ddim_trailing",), "euler_a", False),
        ("default", ("default",), "euler_a", True),
        ("Euler", ("euler",), "euler_a", False),
    ],
)
def test_an_alias_of_the_sampler_is_the_sampler(sampler: str, aliases: tuple[str, ...], told: str, same: bool) -> None:
    body, spelling = answer(told=info(sampler_name=told)), Spelling(sampler=sampler, aliases=aliases)
    if same:
        assert len(read(body, spelling=spelling)) == 1
    else:
        with pytest.raises(InvalidAnswerError, match="another sampler"):
            read(body, spelling=spelling)


# --- Steps, guidance and prompts ------------------------------------------------------------------------------------

KNOWN = Limits(size_step=8, sure_size_step=64)
LONG = "a very long story about a lighthouse, " * 80


@pytest.mark.parametrize(
    "told",
    [{"steps": 20, "cfg_scale": 7.5}, {"cfg_scale": 7.500001}, {"steps": None}, {"steps": "80"}, {"cfg_scale": 0}],
)
def test_what_was_asked_for_is_what_is_told(told: dict[str, Any]) -> None:
    assert len(read(answer(told=info(**told)))) == 1
    assert len(read(answer(told=info(**told)), limits=KNOWN)) == 1


@pytest.mark.parametrize("told", [{"steps": 8}, {"steps": 21}, {"cfg_scale": 1}, {"cfg_scale": 30}])
def test_other_steps_or_guidance_are_no_result(told: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswerError, match="another number of steps") as caught:
        read(answer(told=info(**told)))
    assert caught.value.reason == "wrong_steps"
    assert not isinstance(caught.value, LimitError)


@pytest.mark.parametrize(
    ("told", "limits"),
    [
        ({"steps": 8}, replace(KNOWN, most_steps=8)),
        ({"cfg_scale": 1}, replace(KNOWN, most_cfg_scale=1.0)),
        ({"steps": 1, "cfg_scale": 1.0}, replace(KNOWN, most_steps=1, most_cfg_scale=1.0)),
    ],
)
def test_a_server_that_clamps_teaches_its_limits(told: dict[str, Any], limits: Limits) -> None:
    with pytest.raises(LimitError) as caught:
        read(answer(told=info(**told)), limits=KNOWN)
    assert caught.value.limits == limits


def test_more_steps_than_asked_for_are_no_limit() -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        read(answer(told=info(steps=30)), limits=KNOWN)
    assert not isinstance(caught.value, LimitError)


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("after", ["", ", ", "\ufffd"])
def test_a_prompt_that_was_cut_teaches_how_long_one_may_be(name: str, after: str) -> None:
    with pytest.raises(LimitError) as caught:
        read(answer(told=info(**{name: LONG[:2046] + after})), job(**{name: LONG}), limits=KNOWN)
    most = caught.value.limits.most_prompt_bytes
    assert most is not None
    assert 2040 <= most <= 2046


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (LONG, LONG + ", "),
        (LONG, LONG.strip()),
        ("a cat", "a"),
        (LONG + "<lora:detail:1>", LONG),
        (LONG, "another text " * 100),
        (LONG, None),
    ],
)
def test_a_prompt_that_was_not_cut(prompt: str, told: object) -> None:
    assert len(read(answer(told=info(prompt=told)), job(prompt=prompt), limits=KNOWN)) == 1


@given(st.binary(max_size=60))
def test_any_bytes_are_an_invalid_answer_at_worst(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        read(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(images=JSON, told=JSON)
def test_any_json_is_an_invalid_answer_at_worst(images: object, told: object) -> None:
    with pytest.raises(InvalidAnswerError):
        read(json.dumps({"images": images, "info": told}).encode())


INFO_FIELDS = st.sampled_from(
    (
        *("all_seeds", "infotexts", "index_of_first_image", "sampler_name", "sd_model_name", "sd_model_hash"),
        *("steps", "cfg_scale", "prompt", "negative_prompt"),
    )
)


@given(told=st.dictionaries(INFO_FIELDS, JSON))
def test_any_info_is_an_invalid_answer_at_worst(told: dict[str, object]) -> None:
    try:
        images = read(answer(told=told), spelling=Spelling(sampler="Euler"), limits=KNOWN)
    except InvalidAnswerError:
        return
    assert [image.seed for image in images] == [42]
