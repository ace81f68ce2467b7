"""The fields of the generation routes: one entry each, which checks, describes and explains it.

A field that other APIs call by another name lists that name in its entry; a bound that the operator sets is in
:meth:`FieldSet._rules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, create_model
from pydantic import WithJsonSchema as Described

from api.schemas import values
from api.schemas.other_names import NOT_FETCHED, OtherNames
from services.generation_request import Mode
from services.masks import Mask
from services.pictures import Picture

#: Larger ones fail in extensions of A1111, which hand them to numpy.
MAX_SEED: Final = 2**32 - 1

#: Those of the field and of the prompt's tags together.
MOST_LORAS: Final = 5

#: By which a picture is enlarged at most.
MOST_SCALE: Final = 4

#: No default is validated, so None can stand for "left out" while a null from outside is refused.
_LEFT_OUT: Any = None

#: In JSON a picture is text; the description of the form says what it is there.
_PICTURE = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "A PNG, JPEG, WebP or BMP as base64 or as a data URI (`data:image/png;base64,…`), or the `image_id` "
    "of an image that this service has stored.",
}
_REFERENCE = _PICTURE | {
    "description": "What the result is to resemble: a garment, or a style. As base64 or as a data URI."
}
_MASK = _PICTURE | {
    "description": "The same size as `image`: white is repainted, black is kept. As base64 or as a data URI."
}

# Field before the validators: the other way round its bounds would be missing from the JSON schema.
Text = Annotated[str, Field(json_schema_extra={"pattern": "^[^\\u0000]*$"}), AfterValidator(values.text)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra={"pattern": "^[^\\u0000]*$"}),
    AfterValidator(values.text),
]
Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8), BeforeValidator(values.whole)]
Width = Annotated[Side, Field(description="Pixels. Width × height is at most `MAX_PIXELS`.")]
Height = Annotated[Side, Field(description="Pixels.")]
HiresSide = Annotated[
    int,
    Field(ge=64, le=8192, multiple_of=8, description="Of the final picture, pixels; not less than that of the first."),
    BeforeValidator(values.whole),
]
Steps = Annotated[
    int,
    Field(ge=1, description="Sampling steps."),
    BeforeValidator(values.whole),
    OtherNames("numinferencesteps", "inferencesteps", "samplingsteps", "numsteps", "ddimsteps"),
]
Strength = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False, description="How much is repainted: 0 nothing, 1 everything."),
    OtherNames(
        *("denoisingstrength", "denoise", "denoising", "promptstrength", "initstrength"),
        says="0 keeps the picture, 1 repaints all of it",
    ),
    OtherNames(
        *("imagestrength", "imageweight"),
        says="the other way round: 0 keeps the picture, 1 repaints all of it",
    ),
]


UpscaleSide = Annotated[
    int,
    Field(ge=16, le=16_384, multiple_of=8, description="Of the enlarged picture, pixels; of the picture's own shape."),
    BeforeValidator(values.whole),
    OtherNames("upscalingresizew", "upscalingresizeh", "targetwidth", "targetheight", says="in pixels"),
]
ResponseFormat = Annotated[
    Literal["base64", "url"],
    Field(description="`url` leaves `image_base64` out of the answer."),
    OtherNames("outputformat", "returntype", "responsetype", "output", says="'base64' or 'url'"),
]


class LoraFields(BaseModel):
    """One LoRA."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[Name, Field(description="One that `GET …/options` lists.")]
    weight: Annotated[
        float,
        Field(ge=-2, le=2, allow_inf_nan=False, description="How much it changes; not 0."),
        AfterValidator(values.not_zero),
    ] = 1.0


class HiresFields(BaseModel):
    """
    A second pass over the enlarged picture; `{}` has all defaults. Either `scale`, or `width` and `height`, say how
    large the picture becomes.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    scale: Annotated[
        float,
        Field(
            ge=1.1,
            le=4,
            allow_inf_nan=False,
            description="By default 2. The sides are rounded down to multiples of 8, or of 64 if the WebUI needs that.",
            json_schema_extra={"default": 2.0},
        ),
    ] = _LEFT_OUT
    width: HiresSide = _LEFT_OUT
    height: HiresSide = _LEFT_OUT
    upscaler: Annotated[Name, Field(description="One that `GET …/options` lists under `hires`.")] = "Latent"
    steps: Annotated[
        int, Field(ge=0, description="Of the second pass; 0: as many as `steps`."), BeforeValidator(values.whole)
    ] = 0
    strength: Annotated[
        float,
        Field(ge=0.05, le=1, allow_inf_nan=False, description="How much of the enlarged picture is repainted."),
    ] = 0.7


class BodyFields(BaseModel):
    """The fields of a route, before the operator's bounds are put in: see :class:`FieldSet`."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


Image = Annotated[
    Picture,
    PlainValidator(values.image),
    Described(_PICTURE),
    OtherNames("initimage", "inputimage", "sourceimage", "baseimage", "img", "photo", "picture"),
    OtherNames("imagebase64", "imageb64", "imagedata", "base64", "b64json", "file", "upload"),
    OtherNames("imageurl", "imageuri", "initimageurl", "inputimageurl", "url", says=NOT_FETCHED),
    OtherNames("initimages", "images", "image[]", says="one picture, not a list"),
    OtherNames("personimage", "humanimage", "modelimage", "humanimg", says="the photo of the person"),
]


class Fields(BodyFields):
    """The fields of all three routes that paint."""

    prompt: Annotated[
        Text,
        AfterValidator(values.prompt),
        Field(
            description="What the image shows. A tag `<lora:NAME:WEIGHT>` is taken out of it and is one of `loras`; "
            "any other tag is refused, and so is `<sd_cpp_extra_args>`, which changes a server's settings.",
            json_schema_extra={"minLength": 1, "pattern": "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"},
        ),
        OtherNames("text", "textprompt", "prompts", "textprompts", "positiveprompt", "caption", says="one text"),
    ]
    negative_prompt: Annotated[
        Text,
        AfterValidator(values.tagless),
        Field(description="What the image must not show. Tags are refused: here they would be read as words."),
        OtherNames("negative", "ucprompt", "uc", "antiprompt", "undesiredcontent"),
    ] = ""
    steps: Steps = 20
    cfg_scale: Annotated[
        float,
        Field(ge=1, le=30, allow_inf_nan=False, description="How closely the prompt is followed."),
        OtherNames("guidancescale", "guidance", "cfg", "scale", "unconditionalguidancescale"),
    ] = 7.5
    width: Width = _LEFT_OUT
    height: Height = _LEFT_OUT
    seed: Annotated[
        int,
        Field(ge=-1, le=MAX_SEED, description="-1: the service chooses one. Image *i* of a batch has seed + *i*."),
        BeforeValidator(values.whole),
        OtherNames("noiseseed", "randomseed", "generatorseed"),
    ] = -1
    model: Annotated[
        Name,
        Field(description="Alias, name, title, file name or hash of a model that `GET …/models` lists."),
        OtherNames(
            *(
                "overridesettings",
                "sdmodelcheckpoint",
                "checkpoint",
                "modelid",
                "modelname",
                "ckpt",
                "sdmodel",
                "engine",
            ),
            says="a checkpoint is the only setting of a WebUI that a request chooses",
        ),
    ] = _LEFT_OUT
    sampler: Annotated[
        Name,
        Field(description="One that `GET …/options` lists, in any spelling."),
        OtherNames("samplername", "samplerindex", "samplingmethod", "sampleralgorithm"),
    ] = _LEFT_OUT
    scheduler: Annotated[
        Name,
        Field(description="One that `GET …/options` lists, in any spelling."),
        OtherNames("schedulename", "schedulername", "scheduletype", "noiseschedule"),
    ] = _LEFT_OUT
    batch_size: Annotated[
        int,
        Field(ge=1, description="Number of images generated at a time."),
        BeforeValidator(values.whole),
        OtherNames(
            *("niter", "numimages", "numimagesperprompt", "nimages", "samples", "numoutputs", "imagecount"),
            *("batchcount", "n"),
            says="the number of images",
        ),
    ] = 1
    loras: Annotated[
        list[LoraFields],
        Field(min_length=1, max_length=MOST_LORAS, description="LoRAs that change what the model paints."),
        OtherNames("lora", "loraweights", "loramodels", says='a list of {"name": …, "weight": …}'),
    ] = _LEFT_OUT
    reference_method: Annotated[
        Literal["auto", "adapter", "attention"],
        Field(
            description="By an IP-Adapter, best for a garment; by `reference_only`, which carries colours and texture; "
            "or by the first of these that works with the model. Without `reference` it is refused."
        ),
    ] = "auto"
    reference: Annotated[
        Picture,
        PlainValidator(values.reference),
        Described(_REFERENCE),
        OtherNames(
            *("garment", "garmentimage", "garmimg", "clothimage", "clothingimage", "productimage"),
            says="the picture of the garment",
        ),
        OtherNames("referenceimage", "refimage", "ipadapterimage", "styleimage"),
        OtherNames("garmentimageurl", "clothimageurl", "clothingimageurl", "referenceimageurl", says=NOT_FETCHED),
        OtherNames("productimages", "garmentimages", "referenceimages", "ipadapter", says="one picture, not a list"),
    ] = _LEFT_OUT
    reference_weight: Annotated[
        float,
        Field(
            ge=0.1,
            le=1,
            allow_inf_nan=False,
            description="How much the result is to resemble `reference`, without which it is refused.",
        ),
        OtherNames("ipadapterscale", "ipadapterweight", "referencestrength", "ipadapterstrength"),
    ] = 0.8
    clip_skip: Annotated[
        int,
        Field(
            ge=1,
            le=12,
            description="Which layer of the text encoder CLIP is used, counted from the last: 1 is the last itself. By "
            "default `SD_CLIP_SKIP`.",
        ),
        BeforeValidator(values.whole),
        OtherNames("clipstopatlastlayers", "clipskiplayers", "clip", "clipstop"),
    ] = _LEFT_OUT
    response_format: ResponseFormat = "base64"


class Txt2ImgFields(Fields):
    """What ``POST …/txt2img`` takes."""

    width: Width = 512
    height: Height = 512
    hires: Annotated[
        HiresFields,
        Field(description="A second pass over the enlarged picture (hires fix)."),
        OtherNames(
            *("enablehr", "hiresfix", "highresfix", "hrscale", "hrupscaler", "hrresizex", "hrresizey"),
            *("hrsecondpasssteps", "hrsteps", "upscale", "upscaler", "upscalefactor"),
            says='an object, {"scale", "upscaler", "steps", "strength"}; {} for true',
        ),
    ] = _LEFT_OUT


class Img2ImgFields(Fields):
    """What ``POST …/img2img`` takes."""

    image: Image
    strength: Strength = 0.75
    resize_mode: Annotated[
        Literal["stretch", "crop", "fill"],
        Field(description="How a picture of another shape becomes width × height."),
    ] = "stretch"


class InpaintingFields(Img2ImgFields):
    """What ``POST …/inpainting`` takes."""

    steps: Steps = 30
    strength: Strength = 0.9
    mask_mode: Annotated[
        Literal["white", "black", "alpha"],
        Field(
            description="Which part of the mask is repainted: the white, the black or the transparent. "
            "By default it is the white, if the mask is plain: a photo, or a mask with a hole, is refused.",
            json_schema_extra={"default": "white"},
        ),
        OtherNames(
            *("inpaintingmaskinvert", "maskinvert", "invertmask"),
            says="'black' for 1 (the black part is repainted), 'white' for 0",
        ),
    ] = _LEFT_OUT
    mask: Annotated[
        Mask,
        PlainValidator(values.mask),
        Described(_MASK),
        OtherNames("maskimage", "inpaintmask", "maskbase64", "maskb64", "maskdata"),
        OtherNames("maskurl", "maskimageurl", "maskuri", says=NOT_FETCHED),
    ]
    mask_blur: Annotated[
        int,
        Field(ge=0, le=64, description="Pixels over which the mask fades."),
        BeforeValidator(values.whole),
        OtherNames("maskblurx", "maskblury", "maskfeather", "feather", "blur", "blurfactor", says="in pixels"),
    ] = 4
    inpaint_area: Annotated[
        Literal["whole", "masked"],
        Field(description="`masked` generates a crop around the mask at full size."),
        OtherNames(
            *("inpaintfullres", "inpaintonlymasked", "onlymasked", "fullres"),
            says="'masked' for true, 'whole' for false",
        ),
    ] = "whole"
    inpaint_padding: Annotated[
        int,
        Field(ge=0, le=256, description="Pixels around that crop."),
        BeforeValidator(values.whole),
        OtherNames(
            *("inpaintfullrespadding", "maskedpadding", "onlymaskedpadding", "paddingmaskcrop", "maskpadding"),
            says="in pixels",
        ),
    ] = 32
    inpaint_fill: Annotated[
        Literal["original", "fill", "noise", "nothing"],
        Field(description="What is under the mask when the WebUI begins."),
        OtherNames(
            *("inpaintingfill", "maskedcontent", "fillmode"),
            says="0 is 'fill', 1 'original', 2 'noise', 3 'nothing'",
        ),
    ] = "original"


class UpscaleFields(BodyFields):
    """What ``POST …/upscale`` takes: either `scale`, or `width` and `height`, say how large the picture becomes."""

    image: Image
    scale: Annotated[
        float,
        Field(
            ge=1.1,
            le=MOST_SCALE,
            allow_inf_nan=False,
            description="By default 2. The sides are rounded down to multiples of 8.",
            json_schema_extra={"default": 2.0},
        ),
        OtherNames("factor", "scalefactor", "upscalingresize", "upscaleby", "upscalefactor", "resize"),
    ] = _LEFT_OUT
    width: UpscaleSide = _LEFT_OUT
    height: UpscaleSide = _LEFT_OUT
    upscaler: Annotated[
        Name,
        Field(description="One that `GET …/options` lists under `upscale`. Required where the service has no default."),
        OtherNames("upscaler1", "upscalername", "upscalemodel"),
    ] = _LEFT_OUT
    response_format: ResponseFormat = "base64"


FIELDS: Mapping[Mode, type[BodyFields]] = {
    "txt2img": Txt2ImgFields,
    "img2img": Img2ImgFields,
    "inpainting": InpaintingFields,
    "upscale": UpscaleFields,
}

#: Those that are lists or objects.
STRUCTURED_FIELDS: Final = frozenset({"loras", "hires"})


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The bounds that the operator decides. Pixels are width × height."""

    max_prompt_chars: int
    max_steps: int
    max_pixels: int
    max_hires_pixels: int
    max_upscale_pixels: int
    max_batch_size: int
    max_input_pixels: int


class FieldSet:
    """The fields of all routes with the operator's bounds in them; built once, when the service starts."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.models: Mapping[Mode, type[BodyFields]] = {
            mode: self._bounded(model) if issubclass(model, Fields) else model for mode, model in FIELDS.items()
        }

    def _rules(self) -> dict[str, Any]:
        chars = Field(max_length=self.bounds.max_prompt_chars)
        return {
            "prompt": chars,
            "negative_prompt": chars,
            "steps": Field(le=self.bounds.max_steps),
            "batch_size": Field(le=self.bounds.max_batch_size),
        }

    def _bounded(self, model: type[Fields]) -> type[Fields]:
        bounded: dict[str, Any] = {}
        for name, rule in self._rules().items():
            field = model.model_fields[name]
            bounded[name] = (Annotated[field.annotation, rule, field], field.default)
        # Nobody who leaves steps out gets more than whoever asks for the most.
        steps, default = bounded["steps"]
        bounded["steps"] = (steps, min(default, self.bounds.max_steps))
        if "hires" in model.model_fields:
            hires = model.model_fields["hires"]
            second = HiresFields.model_fields["steps"]
            kind: Any = Annotated[second.annotation, Field(le=self.bounds.max_steps), second]
            bounded_hires = create_model(
                HiresFields.__name__, __base__=HiresFields, __doc__=HiresFields.__doc__, steps=(kind, second.default)
            )
            bounded["hires"] = (Annotated[bounded_hires, hires], hires.default)
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, **bounded)
