"""What fuzzing begins with: whole files and whole answers, from which the damage is made."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from PIL import Image

from tests.services import picture_samples as samples
from tests.services.test_pictures_mutated import SEEDS

_SMALL = samples.encode(samples.noise(24, 16))
_TEXT = base64.b64encode(_SMALL).decode()
_INFO = {
    "seed": 1,
    "all_seeds": [1],
    "index_of_first_image": 0,
    "infotexts": ["a\nSteps: 1"],
    "sd_model_hash": "0123456789",
    "sd_model_name": "sd",
    "sampler_name": "Euler",
}


def _answer(image: bytes, info: object = _INFO, **more: object) -> bytes:
    return json.dumps({"images": [base64.b64encode(image).decode()], "info": info, **more}).encode()


_PICTURES = [
    *SEEDS,
    *(
        samples.encode(image, kind)
        for image in (Image.new("1", (16, 16)), samples.noise(16, 16))
        for kind in ("PNG", "BMP")
    ),
    samples.encode(Image.new("I;16", (16, 16), 700)),
    samples.encode(Image.new("LA", (16, 16))),
    samples.encode(Image.new("RGBA", (16, 16)), "WEBP", lossless=True),
    samples.encode(Image.new("L", (16, 16)), "JPEG"),
    samples.raw_png(16, 16, 2, 0, bytes(4)),
    ("data:image/png;base64," + _TEXT).encode(),
]

_RESULTS = [
    _answer(_SMALL),
    _answer(_SMALL, json.dumps(_INFO), parameters={}),
    _answer(samples.encode(samples.noise(24, 16), "JPEG"), ""),
    _answer(samples.encode(samples.noise(24, 16), "WEBP", exif=samples.exif_orientation(6)), {}),
    _answer(b"data:image/png;base64,", {"all_seeds": [2]}),
    b'{"images": [], "info": ""}',
    b'{"detail": "Not Found"}',
    b'{"detail": [{"loc": ["body", "steps"], "msg": "wrong"}]}',
    b'{"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"}',
    b'{"error": {"msg": "not enough memory"}}',
    b"<html><body>502 Bad Gateway</body></html>",
    b"",
]

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_LISTS = (
    b'[{"title": "sd.ckpt [0123456789]", "model_name": "sd", "hash": "0123456789", "filename": "/m/sd.ckpt"}]',
    b'[{"name": "Euler", "aliases": ["k_euler"], "label": "Euler"}]',
    b'{"progress": 0.5, "eta_relative": 1.5}',
    b'{"cuda": {"system": {"free": 1}}, "sd_model_checkpoint": "sd"}',
)


def _with_length(body: bytes) -> bytes:
    return b"%bContent-Length: %d\r\n\r\n%b" % (_HEAD, len(body), body)


_WIRE = [
    *(_with_length(body) for body in (*_LISTS, *_RESULTS[5:])),
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
    _HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\0",
    _HEAD + b"Content-Encoding: deflate\r\nSet-Cookie: a=b; Path=/; Expires=Thu\r\n\r\nx",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/login?a=b#c\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: x\r\nContent-Length: 4\r\n\r\nbusy",
    b"HTTP/0.9 200 OK\r\n\r\n",
]

_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n'
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x01\r\n--x--\r\n"
)
_BODIES = [
    b'{"prompt": "a", "steps": 20, "cfg_scale": 7, "seed": -1, "image": "\x01","mask": "data:image/png;base64,\x01"}',
    b'{"prompt": "a", "init_images": ["\x01"], "mask": "\x01", "inpainting_fill": 1, "inpaint_full_res": true}',
    b'{"prompt": "a", "loras": [{"name": "x", "weight": 1}], "hires": {"scale": 2, "upscaler": "Latent"}}',
    b'{"override_settings": {"sd_model_checkpoint": "a"}, "alwayson_scripts": {"x": {"args": [false]}}, "styles":[]}',
    b'{"prompt": "a", "size": "512x512", "quality": "high", "n": 2, "output_format": "webp", "stream": true}',
    _FORM,
]

SEEDS_OF: Mapping[str, list[bytes]] = {
    "bodies": _BODIES,
    "pictures": _PICTURES,
    "results": _RESULTS,
    "wire": [bytes([call]) + answer for answer in _WIRE for call in range(5)],
}

#: Words that chance would not find.
WORDS_OF: Mapping[str, list[bytes]] = {
    "bodies": [
        *(b'"image"', b'"mask"', b'"init_images"', b'"alwayson_scripts"', b'"override_settings"', b'"n_iter"'),
        *(b"\x01", b'":"', b'":["', b"\\u0022", b"\\ud800", b"data:image/png;base64,", b"--x", b"filename", b"1e400"),
    ],
    "pictures": [
        *(
            b"IHDR",
            b"PLTE",
            b"IDAT",
            b"IEND",
            b"tRNS",
            b"eXIf",
            b"iCCP",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"gAMA",
            b"cHRM",
            b"cICP",
            b"sRGB",
            b"zTXt",
        ),
        *(b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"XMP ", b"ICCP", b"RIFF", b"WEBP"),
        *(
            b"\xff\xc0",
            b"\xff\xc2",
            b"\xff\xc4",
            b"\xff\xd8",
            b"\xff\xda",
            b"\xff\xdb",
            b"\xff\xdd",
            b"\xff\xe1Exif\0\0",
            b"\xff\xe2ICC_PROFILE\0\1\1",
        ),
        *(b"acsp", b"mntr", b"prtr", b"RGB ", b"GRAY", b"CMYK", b"A2B0", b"D2B0", b"rTRC", b"mft1", b"mAB ", b"para"),
        *(b"Adobe", b"JFIF\0", b"BM", b"II*\0", b"MM\0*", b"\x01\x12", b"data:image/png;base64,"),
    ],
    "results": [
        *(b'"images"', b'"info"', b'"all_seeds"', b'"infotexts"', b'"index_of_first_image"', b'"sd_model_hash"'),
        *(b'"sd_model_name"', b'"sampler_name"', b'"error"', b'"errors"', b'"detail"', b'"message"', b'"msg"'),
        *(
            b"null",
            b"NaN",
            b"1e999",
            b"99999999999999999999",
            b"-1",
            b"\\ud800",
            b"[[[[",
            b"data:",
            b"NONE",
            b"iVBORw0KGgo",
        ),
    ],
    "wire": [
        *(b"HTTP/1.1 ", b"200", b"204", b"301", b"304", b"401", b"503", b"Location: ", b"//[", b"Content-Length: "),
        *(b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"br", b"zstd", b"deflate, gzip", b"Set-Cookie: "),
        *(
            b"\r\n",
            b"Connection: ",
            b"Upgrade",
            b"100 Continue\r\n\r\n",
            b"Content-Type: text/html; charset=",
            b"utf-7",
        ),
        *(b"WWW-Authenticate: Digest", b"Refresh: 0", b"Link: <", b"null", b'"title"', b'"name"', b'"hash"'),
    ],
}
