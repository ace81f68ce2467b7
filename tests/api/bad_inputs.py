"""Requests that must be refused, as data: what is sent, and the status, code and fields that must come back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from tests.services import picture_samples as samples

JSON = "application/json"
BOUNDARY = "the-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

SIZE = (64, 64)
PNG = samples.encode(samples.gradient(*SIZE))
_mask = Image.new("L", SIZE, 0)
_mask.paste(255, (16, 16, 48, 48))
MASK = samples.encode(_mask)


def text(data: bytes) -> str:
    """Bare base64."""
    return base64.b64encode(data).decode()


#: The least that each route accepts.
VALID: dict[str, dict[str, Any]] = {
    "txt2img": {"prompt": "a harbour"},
    "img2img": {"prompt": "a harbour", "image": text(PNG)},
    "inpainting": {"prompt": "a harbour", "image": text(PNG), "mask": text(MASK)},
}


@dataclass(frozen=True, kw_only=True)
class BadRequest:
    """
    :param fields: exactly those that ``errors`` must name; empty where the body cannot be read at all.
    :param says: words that ``detail`` must have in it.
    """

    name: str
    route: str = "txt2img"
    body: bytes
    content_type: str | None = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 422
    code: str = "validation_error"
    fields: frozenset[str] = frozenset()
    says: str = ""


def _wrong(route: str, name: str, fields: str | Sequence[str], says: str = "", **changes: Any) -> BadRequest:
    """A valid JSON body but for the changes."""
    body = json.dumps({**VALID[route], **changes}).encode()
    named = [fields] if isinstance(fields, str) else fields
    return BadRequest(name=f"{route}: {name}", route=route, body=body, fields=frozenset(named), says=says)


def _missing(route: str, name: str) -> BadRequest:
    body = {key: value for key, value in VALID[route].items() if key != name}
    named = frozenset({name})
    return BadRequest(
        name=f"{route}: no {name}", route=route, body=json.dumps(body).encode(), fields=named, says="is req"
    )


def _unreadable(name: str, body: bytes, says: str = "") -> BadRequest:
    return BadRequest(name=name, body=body, status=400, code="malformed_request", says=says)


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    file = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def _form(route: str, name: str, fields: str | Sequence[str], *parts: bytes, says: str = "") -> BadRequest:
    named = [fields] if isinstance(fields, str) else fields
    return BadRequest(
        name=f"{route} form: {name}",
        route=route,
        body=form(*parts),
        content_type=FORM,
        fields=frozenset(named),
        says=says,
    )


#: Every wrong type for a number, and what is no whole number.
_NO_NUMBERS: tuple[Any, ...] = (None, True, False, "20", "", [], [20], {}, {"value": 20})
_INTEGERS: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "steps": ("txt2img", (0, -1, 151, 2.5, 2**63, 10**30, -(10**30), 1e300), "between 1 and 150"),
    "width": ("txt2img", (0, 56, 65, 513, 2056, -512, 512.5, 2**64, 1e300), "multiple of 8 between 64 and 2048"),
    "height": ("img2img", (0, 56, 65, 513, 2056, -512, 512.5, 2**64), "multiple of 8 between 64 and 2048"),
    "seed": ("txt2img", (-2, 2**32, 1.5, 2**63, 10**30), ""),
    "batch_size": ("txt2img", (0, -1, 5, 1.5, 10**30), "between 1 and 4"),
    "clip_skip": ("txt2img", (0, -1, 13, 1.5, 10**30), "between 1 and 12"),
    "mask_blur": ("inpainting", (-1, 65, 0.5, 10**30), "between 0 and 64"),
    "inpaint_padding": ("inpainting", (-1, 257, 0.5, 10**30), "between 0 and 256"),
}
_NUMBERS: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "cfg_scale": ("txt2img", (0, 0.99, 30.01, -7, 10**30, 1e308), "between 1 and 30"),
    "strength": ("img2img", (-0.01, 1.01, 10**30), "between 0 and 1"),
}
_CHOICES: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "response_format": ("txt2img", ("", "png", "URL", "base64 ", None, 1, True, ["url"], {}), "'base64', 'url'"),
    "resize_mode": ("img2img", ("", "Stretch", "0", None, 0), "'stretch', 'crop', 'fill'"),
    "mask_mode": ("inpainting", ("", "grey", None, 1), "'white', 'black', 'alpha'"),
    "inpaint_area": ("inpainting", ("", "all", None, True), "'whole', 'masked'"),
    "inpaint_fill": ("inpainting", ("", "latent noise", None, 1), "'original', 'fill', 'noise', 'nothing'"),
}


#: Entries of ``loras``, the field of the answer, and words in it.
_LORAS: tuple[tuple[Any, str, str], ...] = (
    *((value, "loras", "must be a list") for value in (None, True, 1, "add-detail", {}, {"name": "add-detail"})),
    ([], "loras", "between 1 and 5 entries"),
    ([{"name": "add-detail"}] * 6, "loras", "between 1 and 5 entries"),
    *(([value], "loras[0]", "must be an object") for value in (None, 1, "add-detail", [])),
    ([{}], "loras[0].name", "is required"),
    *(([{"name": value}], "loras[0].name", "") for value in (None, 1, "", "a" * 201, "a\0", ["a"], {})),
    *(
        ([{"name": "add-detail"}, {"name": "blue coat", "weight": value}], "loras[1].weight", "loras[1].weight: must")
        for value in (None, True, "1", [], 0, -2.1, 2.01, 10**30)
    ),
    ([{"name": "add-detail", "scale": 1}], "loras[0].scale", "the fields here are name, weight"),
    ([{"name": "add-detail"}, {"name": "add-detail"}], "loras[1].name", "is asked for twice"),
    ([{"name": "nosuch"}], "loras[0].name", "is not a LoRA available with this model"),
)


#: Values of ``hires``, the fields of the answer, and words in it.
_HIRES: tuple[tuple[Any, str, str], ...] = (
    *((value, "hires", "must be an object") for value in (None, True, 2, "Latent", [], [{}])),
    *(
        ({"scale": value}, "hires.scale", "hires.scale: must")
        for value in (None, True, "2", 1, 1.09, 4.01, 0, -2, 10**30)
    ),
    *(({"width": value, "height": 1024}, "hires.width", "") for value in (None, "1", 0, 63, 65, 8200, 100.5, [])),
    ({"width": 1024}, "hires.height", "is required with width"),
    ({"height": 1024}, "hires.width", "is required with height"),
    ({"scale": 2, "width": 1024, "height": 1024}, "hires.scale", "send one or the other"),
    ({"width": 512, "height": 512}, "hires.height", "must be larger than 512 x 512"),
    ({"width": 1024, "height": 504}, "hires.height", "smaller in no direction"),
    ({"width": 4096, "height": 4096}, "hires.height", "at most 4194304 pixels"),
    *(({"upscaler": value}, "hires.upscaler", "") for value in (None, 1, "", "nosuch", "a\0", "a" * 201)),
    *(({"steps": value}, "hires.steps", "between 0 and 150") for value in (-1, 151)),
    *(({"steps": value}, "hires.steps", "must be an integer") for value in (None, "1", 1.5, True)),
    *(({"strength": value}, "hires.strength", "hires.strength: must") for value in (None, "1", 0, 0.04, 1.01, True)),
    ({"enable": True}, "hires.enable", "the fields here are scale, width, height, upscaler, steps, strength"),
)


def hires() -> Iterator[BadRequest]:
    """Every member wrong in every way, in JSON and in a form."""
    for value, name, says in _HIRES:
        shown = json.dumps(value)[:60]
        yield _wrong("txt2img", f"hires {shown}", name, says, hires=value)
        if isinstance(value, list | dict):
            parts = part("prompt", b"a"), part("hires", json.dumps(value).encode())
            yield _form("txt2img", f"hires {shown}", name, *parts, says=says)
    for route in ("img2img", "inpainting"):
        yield _wrong(route, "hires", "hires", "only of txt2img", hires={})
    yield _wrong("txt2img", "a name of others hr_upscaler", "hr_upscaler", "'hires'", hr_upscaler="Latent")


def loras() -> Iterator[BadRequest]:
    """Every member wrong in every way, in JSON and in a form."""
    for value, name, says in _LORAS:
        shown = json.dumps(value)[:60]
        yield _wrong("txt2img", f"loras {shown}", name, says, loras=value)
        if isinstance(value, list | dict):
            parts = part("prompt", b"a"), part("loras", json.dumps(value).encode())
            yield _form("txt2img", f"loras {shown}", name, *parts, says=says)
    for text in ("add-detail", "[1", '[{"name": "a", "name": "b"}]', "[NaN]"):
        yield _form("txt2img", f"loras {text}", "loras", part("prompt", b"a"), part("loras", text.encode()))
    tags = " ".join(f"<lora:{name}:1>" for name in "abcd")
    both = {"prompt": f"a {tags}", "loras": [{"name": "add-detail"}, {"name": "blue coat"}]}
    yield _wrong("txt2img", "six LoRAs", "prompt", "asks for 6 LoRAs", **both)
    yield _wrong("txt2img", "nothing but a tag", "prompt", "it has nothing but tags", prompt=" <lora:add-detail:1> ")
    for name in ("Loras", "lora_weights"):
        yield _wrong("txt2img", f"a name of others {name}", name, "'loras'", **{name: 1})


def numbers() -> Iterator[BadRequest]:
    """Every number wrong in every way."""
    for name, (route, values, says) in {**_INTEGERS, **_NUMBERS}.items():
        for value in values:
            whole = isinstance(value, int) or name in _NUMBERS
            yield _wrong(route, f"{name} {value!r}", name, says if whole else name, **{name: value})
        for value in _NO_NUMBERS:
            yield _wrong(route, f"{name} {value!r}", name, "must be a", **{name: value})


def texts() -> Iterator[BadRequest]:
    """Prompts and names."""
    tag = "<sd_cpp_extra_args>{}</sd_cpp_extra_args>"
    for value in ("", " ", "\t\n", "\u00a0\u2003"):
        yield _wrong("txt2img", f"prompt {value!r}", "prompt", "must not be blank", prompt=value)
    for name in ("prompt", "negative_prompt"):
        for value in (None, 1, 1.5, True, [], ["a"], {}):
            yield _wrong("txt2img", f"{name} {value!r}", name, "must be a string", **{name: value})
        yield _wrong("txt2img", f"{name} too long", name, "at most 10000 characters", **{name: "x" * 10_001})
        yield _wrong(
            "txt2img", f"{name} much too long", name, "at most 10000 characters", **{name: "\U0001f600" * 80_000}
        )
        yield _wrong("img2img", f"{name} with NUL", name, "NUL", **{name: "a\0b"})
        yield _wrong("txt2img", f"{name} half a pair", name, "surrogate", **{name: "a \ud83d b"})
        yield _wrong("txt2img", f"{name} with a server's arguments", name, "sd_cpp_extra_args", **{name: f"a {tag}"})
        yield _wrong("txt2img", f"{name} with a blank in the tag", name, "sd_cpp", **{name: "< SD_CPP_extra_args >"})
    for name in ("model", "sampler", "scheduler"):
        for value in (None, 1, True, [], {}):
            yield _wrong("txt2img", f"{name} {value!r}", name, "must be a string", **{name: value})
        yield _wrong("txt2img", f"{name} empty", name, "must not be empty", **{name: ""})
        yield _wrong("txt2img", f"{name} too long", name, "at most 200 characters", **{name: "x" * 201})
        yield _wrong("txt2img", f"{name} with NUL", name, "NUL", **{name: "Euler\0"})
        yield _wrong("txt2img", f"{name} half a pair", name, "surrogate", **{name: "\udc00"})
    for name, (route, values, says) in _CHOICES.items():
        for value in values:
            yield _wrong(route, f"{name} {value!r}", name, says, **{name: value})


#: A route, a name of another API, and what is said about it.
_OTHER_NAMES = (
    ("inpainting", "mask_image", "use 'mask'"),
    ("img2img", "mask_image", "use 'mask' (a field of inpainting)"),
    ("txt2img", "num_inference_steps", "use 'steps'"),
    ("txt2img", "numInferenceSteps", "use 'steps'"),
    ("txt2img", "n_iter", "use 'batch_size'"),
    ("txt2img", "num_images", "use 'batch_size'"),
    ("txt2img", "n", "use 'batch_size'"),
    ("txt2img", "size", "use 'width' and 'height'"),
    ("txt2img", "guidance_scale", "use 'cfg_scale'"),
    ("img2img", "denoising_strength", "use 'strength': 0 keeps"),
    (
        "txt2img",
        "denoising_strength",
        "use 'strength': 0 keeps the picture, 1 repaints all of it (a field of img2img",
    ),
    ("img2img", "image_strength", "use 'strength': the other way round"),
    ("img2img", "init_image", "use 'image'"),
    ("img2img", "init_images", "use 'image': one picture, not a list"),
    ("img2img", "image_url", "use 'image': the picture itself"),
    ("inpainting", "mask_url", "use 'mask': the picture itself"),
    ("inpainting", "person_image", "use 'image': the photo of the person"),
    ("inpainting", "inpaint_full_res", "use 'inpaint_area': 'masked' for true"),
    ("inpainting", "inpaint_full_res_padding", "use 'inpaint_padding': in pixels"),
    ("inpainting", "inpainting_mask_invert", "use 'mask_mode': 'black' for 1"),
    ("inpainting", "inpainting_fill", "use 'inpaint_fill': 0 is 'fill', 1 'original'"),
    ("txt2img", "sampler_name", "use 'sampler'"),
    ("txt2img", "override_settings", "use 'model'"),
    ("txt2img", "infotext", "an infotext is not read"),
    ("txt2img", "webhook", "there are no callbacks"),
    ("txt2img", "api_key", "a key belongs in the header"),
)

#: What other APIs call reference pictures, LoRAs, the second pass and clip skip, and what is said about it.
_NAMES_OF_EXTRAS = (
    *(
        (name, "use 'reference': the picture of the garment")
        for name in ("garment", "garment_image", "cloth_image", "clothing_image", "product_image")
    ),
    *((name, "use 'reference'") for name in ("reference_image", "ref_image", "ip_adapter_image", "style_image")),
    *(
        (name, "scripts of the WebUI are not run; a picture that the result is to resemble is 'reference'")
        for name in ("control", "controlnet", "alwayson_scripts")
    ),
    ("lora", "use 'loras': a list of"),
    *(
        (name, 'use \'hires\': an object, {"scale", "upscaler", "steps", "strength"}; {} for true')
        for name in ("enable_hr", "hires_fix", "upscale")
    ),
    ("CLIP_stop_at_last_layers", "use 'clip_skip'"),
)


def names() -> Iterator[BadRequest]:
    """Fields that are none here, and names that the WebUI does not know."""
    near = {"step": "steps", "negativ_prompt": "negative_prompt", "Prompt": "prompt", "heigth": "height"}
    for name, meant in near.items():
        yield _wrong("txt2img", f"unknown {name}", name, f"did you mean '{meant}'", **{name: 1})
    spelt = {"negativePrompt": "negative_prompt", "batch-size": "batch_size", "CFG_Scale": "cfg_scale"}
    for name, meant in spelt.items():
        yield _wrong("txt2img", f"spelt {name}", name, f"did you mean '{meant}'", **{name: 1})
    for route, name, says in _OTHER_NAMES:
        yield _wrong(route, f"another API's {name}", name, f"unknown field; {says}", **{name: "x"})
    for route in ("txt2img", "img2img", "inpainting"):
        for name, says in _NAMES_OF_EXTRAS:
            where = " (a field of txt2img)" if "'hires'" in says and route != "txt2img" else ""
            said = f"unknown field; {says}{where}"
            yield _wrong(route, f"another API's {name} for an extra", name, said, **{name: "x"})
    yield _wrong("txt2img", "nothing is near", "zzz", "unknown field; the fields of txt2img are prompt, neg", zzz=1)
    for name in ("script_name", "__proto__", "", "x" * 300, "a\0b", "prompt ", "_bounds", "model_config"):
        shown = name if len(name) <= 100 else name[:100] + "…"
        yield _wrong("txt2img", f"unknown {name[:20]!r}", shown, "unknown field", **{name: {"a": [1, 2, 3]}})
    for name in ("image", "strength", "resize_mode"):
        yield _wrong("txt2img", f"{name} of another route", name, "only of img2img and inpainting", **{name: "x"})
    for name in ("mask", "mask_mode", "mask_blur", "inpaint_area", "inpaint_padding", "inpaint_fill"):
        for route in ("txt2img", "img2img"):
            yield _wrong(route, f"{name} of another route", name, "only of inpainting", **{name: 4})
    for name in ("Eular a", "k_euler_b", "../../etc/passwd"):
        yield _wrong("txt2img", f"sampler {name}", "sampler", "is not a sampler of this service", sampler=name)
    yield _wrong("txt2img", "near sampler", "sampler", "did you mean 'Euler a'", sampler="Eular a")
    yield _wrong("txt2img", "scheduler alone", "scheduler", "is not offered", scheduler="Carras")
    yield _wrong("txt2img", "scheduler", "scheduler", "did you mean 'Karras'", sampler="Euler", scheduler="Carras")
    yield _wrong("txt2img", "both", ["sampler", "scheduler"], "", sampler="Eular", scheduler="Carras")
    unknown = [
        _wrong("txt2img", f"model {name}", "model", "known: ", model=name) for name in ("sd-v1-6", "/etc/passwd")
    ]
    for one in unknown:
        yield BadRequest(**{**one.__dict__, "code": "model_not_found"})
    yield _wrong("txt2img", "model and steps", ["model", "steps"], "", model="sd-v1-6", steps=0)
    yield _wrong("txt2img", "model and sampler", ["model", "sampler"], "", model="sd-v1-6", sampler="Eular")


def remedies() -> Iterator[BadRequest]:
    """What came is shown as JSON spells it, with what to do about it."""
    for value, says in (
        ("20", 'must be an integer; send 20, without the quotes (got "20")'),
        (True, "must be an integer (got true)"),
        (None, "must be an integer; leave the field out to get the default (got null)"),
        ("", 'must be an integer; leave the field out to get the default (got "")'),
        (" 20", 'must be an integer (got " 20")'),
    ):
        yield _wrong("txt2img", f"steps {value!r} with a remedy", "steps", says, steps=value)
    yield _wrong("txt2img", "cfg_scale with a remedy", "cfg_scale", "send 7.5, without the quotes", cfg_scale="7.5")
    yield _wrong("txt2img", "model empty with a remedy", "model", "leave the field out", model="")
    yield _wrong(
        "txt2img",
        "a choice empty",
        "response_format",
        'leave the field out to get the default (got "")',
        response_format="",
    )
    prompt = part("prompt", b"a harbour")
    for name in ("steps", "cfg_scale", "seed", "model", "sampler", "response_format"):
        yield _form("txt2img", f"{name} left empty", name, prompt, part(name, b""), says="leave the field out")
    yield _form("txt2img", "a fraction", "steps", prompt, part("steps", b"20.5"), says="must be an integer (got 20.5)")


def several() -> Iterator[BadRequest]:
    """Many faults are told at once, and rules that need two fields."""
    yield _wrong("txt2img", "three", ["steps", "width", "foo"], "", steps=0, width=65, foo=1)
    everything = {"prompt": 1, "steps": 0, "cfg_scale": 0, "width": 1, "height": 1, "seed": -2, "batch_size": 0}
    yield _wrong("txt2img", "seven", list(everything), "and 2 more", **everything)
    yield _wrong("inpainting", "pictures too", ["image", "steps", "mask_blur"], "", image="?", steps=0, mask_blur=-1)
    yield _wrong("txt2img", "too many pixels", "height", "at most 2359296 pixels", width=2048, height=2048)
    yield _wrong("txt2img", "just too many pixels", "height", "at most 2359296 pixels", width=1536, height=1544)
    yield _wrong("img2img", "too many pixels", "height", "at most 2359296 pixels", width=2048, height=1160)
    yield _wrong(
        "txt2img", "a seed too high", "seed", "at most 4294967292 with batch_size 4", seed=2**32 - 3, batch_size=4
    )
    yield BadRequest(name="an empty object", body=b"{}", fields=frozenset({"prompt"}))
    yield BadRequest(
        name="nothing for inpainting", route="inpainting", body=b"{}", fields=frozenset({"prompt", "image", "mask"})
    )
    for route in VALID:
        for name in VALID[route]:
            yield _missing(route, name)


def pictures() -> Iterator[BadRequest]:
    """What is no picture, or none that is taken."""
    gif = b"GIF89a" + bytes(100)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    bomb = samples.raw_png(30_000, 30_000, 1, 0, b"", idat=b"x")
    lying = samples.raw_png(64, 64, 8, 2, b"", idat=b"not deflated")
    wrong = {
        "a number": (1, "must be a picture"),
        "null": (None, "must be a picture"),
        "true": (True, "must be a picture"),
        "a list": ([text(PNG)], "must be a picture"),
        "an object": ({"url": "http://host/a.png"}, "must be a picture"),
        "an empty object": ({}, "as JSON.stringify writes a File"),
        "a Uint8Array": (dict(enumerate(PNG)), "as JSON.stringify writes a Uint8Array"),
        "a Buffer": ({"type": "Buffer", "data": list(PNG)}, "buffer.toString('base64')"),
        "numbers": (list(PNG), "is a list of numbers"),
        "a JavaScript object": ("[object Object]", "JavaScript turned into text"),
        "Python's bytes": (str(PNG), "is how Python prints bytes"),
        "Python's base64": (str(base64.b64encode(PNG)), "is how Python prints bytes"),
        "two prefixes": ("data:image/png;base64,data:image/png;base64," + text(PNG), "twice"),
        "an empty canvas": ("data:,", "an empty canvas"),
        "a blob": ("blob:null/3d3a", "only in the page that made it"),
        "percent-encoded": (text(PNG).replace("+", "%2B").replace("/", "%2F"), "percent-encoded"),
        "base64 of base64": (text(text(PNG).encode()), "base64 of base64"),
        "hexadecimal": (PNG.hex(), "hexadecimal"),
        "empty": ("", "is empty"),
        "blank": (" \n", "is empty"),
        "a URL": ("http://169.254.169.254/latest/meta-data", "URLs are not fetched"),
        "a file URL": ("file:///etc/passwd", "URLs are not fetched"),
        "a path": ("/etc/passwd", "file paths are not read"),
        "a relative path": ("../secret.png", "file paths are not read"),
        "a Windows path": ("C:\\secret.png", ""),
        "no base64": ("!!!!", "base64"),
        "half base64": (text(PNG)[:-3], "base64"),
        "URL-safe base64": ("-_-_" + text(PNG), "URL-safe alphabet"),
        "base64 without padding": (text(PNG + bytes(3 - len(PNG) % 3 - 1)).rstrip("="), "without its padding"),
        "a data URI without base64": ("data:image/png," + text(PNG), "data URI"),
        "a data URI without data": ("data:image/png;base64,", "is empty"),
        "base64 of text": (text(b"hello, this is no picture at all"), ""),
        "NUL": ("\0", "base64"),
        "half a pair": ("\ud800", "base64"),
        "GIF": (text(gif), "PNG, JPEG, WebP"),
        "SVG": (text(svg), "PNG, JPEG, WebP"),
        "PDF": (text(b"%PDF-1.7" + bytes(100)), "PNG, JPEG, WebP"),
        "truncated PNG": (text(PNG[: len(PNG) // 2]), ""),
        "truncated JPEG": (text(samples.encode(samples.gradient(), "JPEG")[:300]), ""),
        "only a signature": (text(PNG[:8]), ""),
        "damaged PNG": (text(lying), ""),
        "1x1": (text(samples.encode(Image.new("RGB", (1, 1)))), "at least 16x16"),
        "15 pixels high": (text(samples.encode(Image.new("RGB", (64, 15)))), "at least 16x16"),
        "a bomb": (text(bomb), "at most 50331648 pixels"),
    }
    for name, (value, says) in wrong.items():
        yield _wrong("img2img", f"image {name}", "image", says, image=value)
        yield _wrong("inpainting", f"mask {name}", "mask", says, mask=value)
    other = samples.encode(Image.new("L", (64, 72), 255))
    yield _wrong("inpainting", "mask of another size", "mask", "as large as the image, 64 x 64", mask=text(other))
    black, white = (samples.encode(Image.new("L", SIZE, grey)) for grey in (0, 255))
    yield _wrong("inpainting", "empty mask", "mask", "the mask is empty", mask=text(black))
    yield _wrong("inpainting", "empty black mask", "mask", "the mask is empty", mask=text(white), mask_mode="black")
    yield _wrong("inpainting", "no alpha", "mask", "no alpha channel", mask=text(MASK), mask_mode="alpha")
    photo = samples.encode(samples.noise(*SIZE))
    yield _wrong("inpainting", "a photo as mask", "mask", "many greys, like a photo; say with", mask=text(photo))
    hole = Image.new("RGBA", SIZE, "white")
    hole.paste((0, 0, 0, 0), (16, 16, 48, 48))
    yield _wrong("inpainting", "a mask with a hole", "mask", "say with mask_mode", mask=text(samples.encode(hole)))
    yield _wrong("inpainting", "a mask of 0 and 1", "mask", "its lightest value is 1 of 255", mask=text(_mask_of(1)))
    opaque = samples.encode(Image.new("RGBA", SIZE, "white"))
    yield _wrong("inpainting", "empty alpha", "mask", "the mask is empty", mask=text(opaque), mask_mode="alpha")


def _mask_of(level: int) -> bytes:
    mask = Image.new("L", SIZE)
    mask.paste(level, (16, 16, 48, 48))
    return samples.encode(mask)


def bodies() -> Iterator[BadRequest]:
    """Bodies that cannot be read at all."""
    ok = b'{"prompt": "a"}'
    for constant in (b"NaN", b"Infinity", b"-Infinity"):
        yield _unreadable(constant.decode(), b'{"prompt": "a", "cfg_scale": ' + constant + b"}", "not a JSON number")
    yield _unreadable("empty", b"", "is empty")
    yield _unreadable("blank", b" \r\n\t", "is empty")
    twice = json.dumps(ok.decode()).encode()
    yield _unreadable("JSON twice", twice, "must be a JSON object, not a string: it was encoded as JSON twice")
    for value in (b"[]", b"[{}]", b'"prompt"', b"1", b"null", b"true"):
        yield _unreadable(f"not an object: {value.decode()}", value, "must be a JSON object")
    for cut in (
        b"{",
        b'{"prompt": "a"',
        b'{"prompt": "a",}',
        b"{'prompt': 'a'}",
        b'{prompt: "a"}',
        ok + ok,
        b"prompt=a",
    ):
        yield _unreadable(f"not JSON: {cut.decode()}", cut, "not JSON")
    yield _unreadable("a control character", b'{"prompt": "a\nb"}', "not JSON")
    yield _unreadable("a comment", b'{"prompt": "a"} // really', "not JSON")
    yield _unreadable("Latin-1", '{"prompt": "Café"}'.encode("latin-1"), "not UTF-8")
    yield _unreadable("UTF-16", ok.decode().encode("utf-16"), "not UTF-8")
    yield _unreadable("UTF-16 without mark", ok.decode().encode("utf-16-le"))
    yield _unreadable("UTF-32", ok.decode().encode("utf-32"), "not UTF-8")
    yield _unreadable("UTF-8 with a byte order mark", b"\xef\xbb\xbf" + ok, "byte order mark")
    yield _unreadable("a surrogate in UTF-8", b'{"prompt": "\xed\xa0\x80"}', "not UTF-8")
    yield _unreadable("half a pair in a key", b'{"prompt": "a", "b\\ud800d": 1}', "surrogate")
    yield _unreadable("a key twice", b'{"prompt": "a", "steps": 1, "steps": 2}', "'steps' twice")
    yield _unreadable("the same key twice", b'{"prompt": "a", "prompt": "a"}', "'prompt' twice")
    yield _unreadable("an escaped key twice", b'{"prompt": "a", "pr\\u006fmpt": "b"}', "'prompt' twice")
    yield _unreadable("an inner key twice", b'{"prompt": {"a": 1, "a": 2}}', "'a' twice")
    yield _unreadable(
        "a long key twice", json.dumps({"k" * 5000: 1}).encode()[:-1] + b', "' + b"k" * 5000 + b'": 2}', "twice"
    )
    yield _unreadable("deep lists", b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply")
    yield _unreadable("deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply")
    yield _unreadable("a number of 5000 digits", b'{"prompt": "a", "steps": ' + b"9" * 5000 + b"}", "number")
    steps, scale = frozenset({"steps"}), frozenset({"cfg_scale"})
    yield BadRequest(name="1e400 as an integer", body=b'{"prompt": "a", "steps": 1e400}', fields=steps)
    yield BadRequest(name="-1e400 as an integer", body=b'{"prompt": "a", "steps": -1e400}', fields=steps)
    yield BadRequest(name="1e400", body=b'{"prompt": "a", "cfg_scale": 1e400}', fields=scale)
    yield BadRequest(name="-1e400", body=b'{"prompt": "a", "cfg_scale": -1e400}', fields=scale)
    yield BadRequest(name="4000 digits", body=b'{"prompt": "a", "steps": ' + b"9" * 4000 + b"}", fields=steps)
    yield BadRequest(
        name="4000 digits for a scale", body=b'{"prompt": "a", "cfg_scale": ' + b"9" * 4000 + b"}", fields=scale
    )
    yield BadRequest(name="deep", body=b'{"prompt": ' + b"[" * 300 + b"]" * 300 + b"}", fields=frozenset({"prompt"}))


def large_bodies() -> Iterator[BadRequest]:
    """What is no picture is bounded, before anything is made of it."""
    too_large = {"status": 413, "code": "payload_too_large", "says": "more than 1 MB besides the pictures in 'image'"}
    more = 1024 * 1024
    start = json.dumps(VALID["img2img"]).encode()[:-1]
    for name, body in {
        "a long prompt": b'{"prompt": "' + b"a" * more + b'"}',
        "white space": b'{"prompt": "a"' + b" " * more + b"}",
        "a list of nothing": b'{"a": [' + b"[]," * (more // 3) + b"[]]}",
        "many names": b"{" + b'"a":1,' * (more // 6) + b'"b":1}',
        "no JSON": b"[" * (more + 1),
        "a list beside a picture": start + b', "a": [' + b"0," * (more // 2) + b"0]}",
        "a picture under another name": b'{"prompt": "a", "photo": "' + b"A" * more + b'"}',
        "a picture twice": start + b', "image": "' + b"A" * more + b'"}',
    }.items():
        yield BadRequest(name=f"large: {name}", route="img2img", body=body, **too_large)
    parts = part("prompt", b"a harbour"), part("negative_prompt", b"a" * more)
    for name, body in {
        "a long text": form(*parts),
        "a file of another name": form(part("prompt", b"a"), part("photo", b"a" * more, "a.png")),
    }.items():
        yield BadRequest(name=f"a large form: {name}", body=body, content_type=FORM, **too_large)
    numbers = ",".join(str(number % 256) for number in range(400_000)).encode()
    pairs = ",".join(f'"{number}":{number % 256}' for number in range(200_000)).encode()
    for name, value, says in (
        ("a Uint8Array", b"{" + pairs + b"}", "as JSON.stringify writes a Uint8Array"),
        ("a Buffer", b'{"type":"Buffer","data":[' + numbers + b"]}", "buffer.toString('base64')"),
        ("a list", b"[" + numbers + b"]", "is a list of numbers"),
    ):
        for field_ in ("image", "mask", "reference"):
            body = b'{"prompt": "a", "' + field_.encode() + b'": ' + value + b"}"
            named = frozenset({field_})
            yield BadRequest(name=f"large: {field_} {name}", route="inpainting", body=body, fields=named, says=says)


def types() -> Iterator[BadRequest]:
    """Types of body that are not taken, and headers."""
    ok = b'{"prompt": "a"}'
    refused = (
        "text/plain",
        "application/x-www-form-urlencoded",
        "image/png",
        "application/xml",
        "json",
        "text/json",
        "*/*",
    )
    for kind in (*refused, "application/json-patch+json", "multipart/mixed; boundary=x", "x/" + "y" * 1000, None):
        shown = str(kind)[:40]
        name = f"content type {shown}"
        yield BadRequest(name=name, body=ok, content_type=kind, status=415, code="unsupported_media_type", says="send ")
    for kind, says in (
        ("application/x-www-form-urlencoded", "curl -d sends that unless"),
        ("text/plain;charset=UTF-8", "fetch sends that for a text unless"),
        ("image/png", "a picture is a field of these"),
    ):
        name = f"what to do about {kind}"
        yield BadRequest(name=name, body=ok, content_type=kind, status=415, code="unsupported_media_type", says=says)
    headers = {"wait=0", "wait=-1", "wait=1.5", "wait=ten", "wait", "wait=", "wait=86401", "wait=99999999999", "wait=٣"}
    for value in sorted(headers - {"wait=٣"}):
        field_ = frozenset({"Prefer"})
        yield BadRequest(
            name=f"Prefer: {value}", body=ok, headers={"Prefer": value}, fields=field_, says="whole seconds"
        )
    for key in ("", " ", "a b", "x" * 256, "\xe9", "a\tb"):
        yield BadRequest(
            name=f"Idempotency-Key {key[:9]!r}",
            body=ok,
            headers={"Idempotency-Key": key},
            fields=frozenset({"Idempotency-Key"}),
            says="visible ASCII characters",
        )
    both = {"Idempotency-Key": "a b", "Prefer": "wait=0"}
    everything = frozenset({"Idempotency-Key", "Prefer", "steps"})
    yield BadRequest(name="headers and a field", body=b'{"prompt": "a", "steps": 0}', headers=both, fields=everything)
    coded = {"Content-Encoding": "gzip"}
    unread = "Content-Encoding"
    yield BadRequest(name="gzip", body=ok, headers=coded, status=415, code="unsupported_media_type", says=unread)
    two = b'{"prompt": "a", "batch_size": 2}'
    png = {"Accept": "image/png"}
    yield BadRequest(name="two as one PNG", body=two, headers=png, fields=frozenset({"batch_size"}), says="must be 1")


def forms() -> Iterator[BadRequest]:
    """Forms: numbers are texts there, and pictures are files."""
    prompt = part("prompt", b"a harbour")
    image, mask = part("image", PNG, "a.png"), part("mask", MASK, "m.png")
    for value in (b"", b"x", b"2.5", b"0", b"151", b" 20", b"1e400", b"nan", b"inf", b"0x10", b"1_0", b"true", b"null"):
        yield _form("txt2img", f"steps {value.decode()!r}", "steps", prompt, part("steps", value))
    yield _form("txt2img", "steps in other digits", "steps", prompt, part("steps", "٢٠".encode()))
    yield _form("txt2img", "steps of 5000 digits", "steps", prompt, part("steps", b"9" * 5000))
    for value in (b"", b"x", b"nan", b"inf", b"-inf", b"1e400", b"0", b"7,5", b"."):
        yield _form("txt2img", f"cfg_scale {value.decode()!r}", "cfg_scale", prompt, part("cfg_scale", value))
    yield _form(
        "txt2img", "steps twice", "steps", prompt, part("steps", b"1"), part("steps", b"2"), says="more than once"
    )
    yield _form("txt2img", "prompt twice", "prompt", prompt, prompt, says="more than once")
    yield _form("img2img", "image twice", "image", prompt, image, image, says="more than once")
    yield _form("img2img", "image as file and as text", "image", prompt, image, part("image", text(PNG).encode()))
    yield _form("txt2img", "a file for a number", "steps", prompt, part("steps", b"20", "steps.txt"), says="a file")
    yield _form("txt2img", "a file for the prompt", "prompt", part("prompt", b"a", "p.txt"), says="must be a string")
    yield _form("txt2img", "a file for a choice", "response_format", prompt, part("response_format", b"url", "f"))
    yield _form("txt2img", "unknown", "step", prompt, part("step", b"1"), says="did you mean 'steps'")
    yield _form("txt2img", "an unknown file", "photo", prompt, part("photo", PNG, "a.png"), says="unknown field")
    yield _form("txt2img", "image of another route", "image", prompt, image, says="only of img2img")
    yield _form("img2img", "no image", "image", prompt, says="is required")
    yield _form("img2img", "an empty file", "image", prompt, part("image", b"", "a.png"), says="is empty")
    yield _form("img2img", "no file chosen", "image", prompt, part("image", b""), says="is empty; send a picture")
    yield _form("img2img", "a text file", "image", prompt, part("image", b"hello", "a.png"))
    yield _form("img2img", "a GIF that says PNG", "image", prompt, part("image", b"GIF89a" + bytes(99), "a.png"))
    base64_file = part("image", text(PNG).encode(), "a.txt")
    yield _form("img2img", "base64 in a file", "image", prompt, base64_file, says="base64 text in a file")
    js_object = part("image", b"[object File]", "blob")
    yield _form("img2img", "an object in a file", "image", prompt, js_object, says="JavaScript turned into text")
    yield _form(
        "img2img", "a URL", "image", prompt, part("image", b"http://127.0.0.1/a.png"), says="URLs are not fetched"
    )
    yield _form(
        "inpainting",
        "a mask of another size",
        "mask",
        prompt,
        image,
        part("mask", samples.encode(samples.gradient(64, 72)), "m"),
    )
    yield _form("inpainting", "no mask", "mask", prompt, image, says="is required")
    yield _form("inpainting", "no prompt", "prompt", image, mask, says="is required")
    yield _form(
        "txt2img", "a prompt that is not UTF-8", "prompt", part("prompt", "Café".encode("latin-1")), says="UTF-8"
    )
    yield _form("txt2img", "NUL", "prompt", part("prompt", b"a\0b"), says="NUL")
    broken = {
        "without boundary": ("multipart/form-data", form(prompt)),
        "with another boundary": ("multipart/form-data; boundary=another", form(prompt)),
        "without parts": (FORM, form()),
        "empty": (FORM, b""),
        "cut off": (FORM, form(prompt)[:60]),
        "that is JSON": (FORM, b'{"prompt": "a"}'),
        "with a part without a name": (FORM, form(part("", b"1").replace(b'; name=""', b""))),
        "with a part without a head": (FORM, form(b"--the-boundary\r\n\r\n1\r\n")),
        "with an endless head": (FORM, form(prompt, b"--the-boundary\r\nX: " + b"a" * 400_000 + b"\r\n")),
        "whose boundary is no ASCII": ("multipart/form-data; boundary=\u00e9", form(prompt)),
        "of 101 parts": (FORM, form(prompt, *[part(f"f{number}", b"1") for number in range(100)])),
    }
    for name, (kind, body) in broken.items():
        status, code = (413, "payload_too_large") if "101" in name else (400, "malformed_request")
        yield BadRequest(name=f"a form {name}", body=body, content_type=kind, status=status, code=code)


BAD_REQUESTS = (
    *numbers(),
    *loras(),
    *hires(),
    *texts(),
    *names(),
    *remedies(),
    *several(),
    *pictures(),
    *bodies(),
    *large_bodies(),
    *types(),
    *forms(),
)
