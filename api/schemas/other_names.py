"""What other APIs call our fields, and what is sent here instead: of A1111, Diffusers, OpenAI, Stability and others.

Likeness would lead astray: ``mask_image`` is most like ``image``, and ``inpainting_mask_invert`` like nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_SIZES = ("width", "height")
_PICTURE = "the picture itself, as base64, as a data URI or as a form's file; URLs are not fetched"


@dataclass(frozen=True, kw_only=True)
class Hint:
    """
    :param says: what to send instead.
    :param fields: the fields of this API that it speaks of.
    """

    says: str
    fields: tuple[str, ...] = ()


def _field(name: str, says: str = "") -> Hint:
    return Hint(says=f"use '{name}'{says and f': {says}'}", fields=(name,))


def _hints() -> Iterator[tuple[tuple[str, ...], Hint]]:
    """By names without underscores, hyphens and capitals."""
    yield from _pictures()
    yield from _numbers()
    yield from _inpainting()
    yield from _names()
    yield from _nothing()


def _pictures() -> Iterator[tuple[tuple[str, ...], Hint]]:
    yield ("initimage", "inputimage", "sourceimage", "baseimage", "img", "photo", "picture"), _field("image")
    yield ("personimage", "humanimage", "modelimage", "humanimg"), _field("image", "the photo of the person")
    yield ("initimages", "images", "image[]"), _field("image", "one picture, not a list")
    yield ("imageurl", "imageuri", "initimageurl", "inputimageurl", "url"), _field("image", _PICTURE)
    yield ("imagebase64", "imageb64", "imagedata", "base64", "b64json", "file", "upload"), _field("image")
    yield ("maskimage", "inpaintmask", "maskbase64", "maskb64", "maskdata"), _field("mask")
    yield ("maskurl", "maskimageurl", "maskuri"), _field("mask", _PICTURE)
    yield (
        ("garmentimage", "garment", "clothimage", "clothingimage", "garmimg", "productimage"),
        Hint(
            says="pictures of garments are not taken; describe it in 'prompt', and send the photo as 'image' with its "
            "'mask' to inpainting",
            fields=("prompt", "image", "mask"),
        ),
    )


def _numbers() -> Iterator[tuple[tuple[str, ...], Hint]]:
    yield ("numinferencesteps", "inferencesteps", "samplingsteps", "numsteps", "ddimsteps"), _field("steps")
    yield ("guidancescale", "guidance", "cfg", "scale", "unconditionalguidancescale"), _field("cfg_scale")
    yield (
        ("denoisingstrength", "denoise", "denoising", "promptstrength", "initstrength"),
        _field("strength", "0 keeps the picture, 1 paints all of it anew"),
    )
    yield (
        ("imagestrength", "imageweight"),
        _field("strength", "the other way round: 0 keeps the picture, 1 paints all of it anew"),
    )
    yield (
        ("niter", "numimages", "numimagesperprompt", "nimages", "samples", "numoutputs", "imagecount", "batchcount"),
        _field("batch_size", "the number of images"),
    )
    yield ("n",), _field("batch_size", "the number of images")
    yield (
        ("size", "resolution", "imagesize", "dimensions"),
        Hint(says="use 'width' and 'height', in pixels", fields=_SIZES),
    )
    yield (
        ("aspectratio", "ratio"),
        Hint(says="use 'width' and 'height', in pixels: the shape follows from them", fields=_SIZES),
    )
    yield ("noiseseed", "randomseed", "generatorseed"), _field("seed")
    yield ("timeout", "wait"), Hint(says="use the header Prefer: wait=N, in seconds")


def _inpainting() -> Iterator[tuple[tuple[str, ...], Hint]]:
    yield (
        ("inpaintfullres", "inpaintonlymasked", "onlymasked", "fullres"),
        _field("inpaint_area", "'masked' for true, 'whole' for false"),
    )
    yield (
        ("inpaintfullrespadding", "maskedpadding", "onlymaskedpadding", "paddingmaskcrop", "maskpadding"),
        _field("inpaint_padding", "in pixels"),
    )
    yield (
        ("inpaintingmaskinvert", "maskinvert", "invertmask"),
        _field("mask_mode", "'black' for 1 (the black part is repainted), 'white' for 0"),
    )
    yield (
        ("inpaintingfill", "maskedcontent", "fillmode"),
        _field("inpaint_fill", "0 is 'fill', 1 'original', 2 'noise', 3 'nothing'"),
    )
    yield ("maskblurx", "maskblury", "maskfeather", "feather", "blur", "blurfactor"), _field("mask_blur", "in pixels")


def _names() -> Iterator[tuple[tuple[str, ...], Hint]]:
    yield ("text", "textprompt", "prompts", "textprompts", "positiveprompt", "caption"), _field("prompt", "one text")
    yield ("negative", "ucprompt", "uc", "antiprompt", "undesiredcontent"), _field("negative_prompt")
    yield ("samplername", "samplerindex", "samplingmethod", "sampleralgorithm"), _field("sampler")
    yield ("schedulename", "schedulername", "scheduletype", "noiseschedule"), _field("scheduler")
    yield (
        ("overridesettings", "sdmodelcheckpoint", "checkpoint", "modelid", "modelname", "ckpt", "sdmodel", "engine"),
        _field("model", "a checkpoint is the only setting of a WebUI that a request chooses"),
    )
    yield ("outputformat", "returntype", "responsetype", "output"), _field("response_format", "'base64' or 'url'")


def _nothing() -> Iterator[tuple[tuple[str, ...], Hint]]:
    yield (
        ("scriptname", "scriptargs", "alwaysonscripts"),
        Hint(says="scripts of the WebUI are not run"),
    )
    yield ("infotext",), Hint(says="an infotext is not read; send its values as fields")
    yield (
        ("sendimages", "saveimages", "donotsavesamples", "donotsavegrid"),
        Hint(says="an image is always stored and sent; 'response_format' decides how", fields=("response_format",)),
    )
    yield (
        ("webhook", "webhookurl", "callback", "callbackurl"),
        Hint(says="nothing is called back; the answer comes on this connection, see GET …/requests/<request_id>"),
    )
    yield (
        ("apikey", "key", "token"),
        Hint(says="a key belongs into the header Authorization: Bearer KEY, never into a body"),
    )
    yield ("requestid", "taskid", "forcetaskid", "jobid"), Hint(says="use the header X-Request-ID")
    yield ("stream", "isasync", "async"), Hint(says="the answer comes whole, on this connection")


def plain(name: str) -> str:
    """The same for ``initImage``, ``init_image`` and ``init-image``."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


HINTS: Mapping[str, Hint] = {name: hint for names, hint in _hints() for name in names}
