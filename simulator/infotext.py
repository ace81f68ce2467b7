"""The text and the JSON in which A1111 says what it has made."""

import json
from dataclasses import dataclass, field
from typing import Any

Value = str | int | float | None


def quoted(value: object) -> str:
    """Quote a value that would be read as several."""
    text = str(value)
    if any(char in text for char in ",\n:"):
        return json.dumps(text, ensure_ascii=False)
    return text


def infotext(prompt: str, negative_prompt: str, params: dict[str, Any]) -> str:
    """`prompt`, `Negative prompt: …` and `Steps: …, Sampler: …` on lines of their own; nulls are left out."""
    shown = {key: value for key, value in params.items() if value is not None}
    values = ", ".join(key if key == value else f"{key}: {quoted(value)}" for key, value in shown.items())
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{values}".strip()


def parse_infotext(text: str) -> dict[str, str]:
    """Read such a text back, as far as `/sdapi/v1/png-info` shows it."""
    *lines, last = text.strip().split("\n")
    pairs = [part.partition(": ") for part in last.split(", ")] if ": " in last else []
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    prompt, _, negative = "\n".join(lines).partition("Negative prompt: ")
    values = {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    for key, _, value in pairs:
        width, by, height = value.partition("x")
        if by and width.isdigit() and height.isdigit():
            values[f"{key}-1"], values[f"{key}-2"] = width, height
        else:
            values[key] = value
    return values


@dataclass(kw_only=True)
class Info:
    """What becomes the `info` string, in the WebUI's order."""

    prompt: str
    negative_prompt: str
    seeds: list[int]
    subseeds: list[int]
    subseed_strength: float
    width: int
    height: int
    sampler: str
    cfg_scale: float
    steps: int
    batch_size: int
    restore_faces: bool
    model_name: str
    model_hash: str
    denoising_strength: float | None
    job_timestamp: str
    version: str | None
    seed_resize: tuple[int, int] = (-1, -1)
    """Width and height, -1 for off."""
    clip_skip: int = 1
    styles: list[str] = field(default_factory=list)
    extra: dict[str, Value] = field(default_factory=dict)
    infotexts: list[str] = field(default_factory=list)
    index_of_first_image: int = 0

    def as_dict(self) -> dict[str, Any]:
        """All keys of version 1.10.1 in its order; `version` only where the server has one."""
        count = len(self.seeds)
        values = {
            "prompt": self.prompt,
            "all_prompts": [self.prompt] * count,
            "negative_prompt": self.negative_prompt,
            "all_negative_prompts": [self.negative_prompt] * count,
            "seed": self.seeds[0],
            "all_seeds": self.seeds,
            "subseed": self.subseeds[0],
            "all_subseeds": self.subseeds,
            "subseed_strength": self.subseed_strength,
            "width": self.width,
            "height": self.height,
            "sampler_name": self.sampler,
            "cfg_scale": self.cfg_scale,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "restore_faces": self.restore_faces,
            "face_restoration_model": "CodeFormer" if self.restore_faces else None,
            "sd_model_name": self.model_name,
            "sd_model_hash": self.model_hash,
            "sd_vae_name": None,
            "sd_vae_hash": None,
            "seed_resize_from_w": self.seed_resize[0],
            "seed_resize_from_h": self.seed_resize[1],
            "denoising_strength": self.denoising_strength,
            "extra_generation_params": self.extra,
            "index_of_first_image": self.index_of_first_image,
            "infotexts": self.infotexts,
            "styles": self.styles,
            "job_timestamp": self.job_timestamp,
            "clip_skip": self.clip_skip,
            "is_using_inpainting_conditioning": False,
        }
        return values if self.version is None else {**values, "version": self.version}

    def as_json(self) -> str:
        """With non-ASCII characters escaped, as the real one writes it."""
        return json.dumps(self.as_dict())
