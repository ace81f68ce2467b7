"""Lists that a fresh A1111 1.10.1 shows, and the pretended machine it runs on."""

from typing import Any

ROOT = "/opt/stable-diffusion-webui"


def _upscaler(name: str, scale: float = 4.0) -> dict[str, Any]:
    return {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": scale}


UPSCALERS: list[dict[str, Any]] = [
    _upscaler("None"),
    _upscaler("Lanczos"),
    _upscaler("Nearest"),
    _upscaler("DAT x2", 2.0),
    _upscaler("DAT x3", 3.0),
    _upscaler("DAT x4"),
    _upscaler("ESRGAN_4x"),
    _upscaler("LDSR"),
    _upscaler("R-ESRGAN 4x+"),
    _upscaler("R-ESRGAN 4x+ Anime6B"),
    _upscaler("ScuNET GAN"),
    _upscaler("ScuNET PSNR"),
    _upscaler("SwinIR 4x"),
]
LATENT_MODES = [
    {"name": name}
    for name in (
        "Latent",
        "Latent (antialiased)",
        "Latent (bicubic)",
        "Latent (bicubic antialiased)",
        "Latent (nearest)",
        "Latent (nearest-exact)",
    )
]
ALWAYS_ON = ("extra options", "hypertile", "refiner", "sampler", "seed")
SCRIPTS = {
    "txt2img": [
        "prompt matrix",
        "prompts from file or textbox",
        "x/y/z plot",
        "extra options",
        "Hypertile",
        "refiner",
        "sampler",
        "seed",
    ],
    "img2img": [
        "img2img alternative test",
        "loopback",
        "outpainting mk2",
        "poor man's outpainting",
        "prompt matrix",
        "prompts from file or textbox",
        "sd upscale",
        "x/y/z plot",
        "extra options",
        "Hypertile",
        "soft inpainting",
        "refiner",
        "sampler",
        "seed",
    ],
}
_FROM = "https://github.com/xinntao/Real-ESRGAN/releases/download"
REALESRGAN = [
    {"name": "R-ESRGAN General 4xV3", "path": f"{_FROM}/v0.2.5.0/realesr-general-x4v3.pth", "scale": 4},
    {"name": "R-ESRGAN 4x+", "path": f"{_FROM}/v0.1.0/RealESRGAN_x4plus.pth", "scale": 4},
    {"name": "R-ESRGAN 4x+ Anime6B", "path": f"{_FROM}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth", "scale": 4},
    {"name": "R-ESRGAN 2x+", "path": f"{_FROM}/v0.2.1/RealESRGAN_x2plus.pth", "scale": 2},
]
LORA = {
    "name": "add-detail",
    "alias": "add-detail",
    "path": f"{ROOT}/models/Lora/add-detail.safetensors",
    "metadata": {"ss_output_name": "add-detail", "ss_network_dim": "8"},
}

LISTS: dict[str, Any] = {
    "upscalers": UPSCALERS,
    "latent-upscale-modes": LATENT_MODES,
    "sd-vae": [],
    "hypernetworks": [],
    "face-restorers": [{"name": "CodeFormer", "cmd_dir": None}, {"name": "GFPGAN", "cmd_dir": None}],
    "realesrgan-models": REALESRGAN,
    "prompt-styles": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": SCRIPTS,
    "script-info": [
        {"name": name.lower(), "is_alwayson": name.lower() in ALWAYS_ON, "is_img2img": kind == "img2img", "args": []}
        for kind, names in SCRIPTS.items()
        for name in names
    ],
    "extensions": [],
}

CMD_FLAGS: dict[str, Any] = {
    "data_dir": ROOT,
    "models_dir": f"{ROOT}/models",
    "ckpt_dir": None,
    "no_half": False,
    "medvram": False,
    "lowvram": False,
    "listen": False,
    "port": None,
    "share": False,
    "api": True,
    "api_auth": None,
    "api_log": False,
    "nowebui": False,
    "gradio_auth": None,
    "cors_allow_origins": None,
    "server_name": None,
    "subpath": None,
    "api_server_stop": False,
    "timeout_keep_alive": 30,
    "disable_all_extensions": False,
}


def memory(device: str, *, running: bool) -> dict[str, Any]:
    """What /sdapi/v1/memory says of a "gpu" or a "cpu"; bytes."""
    total, used = 25_276_063_744.0, 1_341_497_344
    ram = {"free": total - used, "used": used, "total": total}
    if device == "cpu":
        return {"ram": ram, "cuda": {"error": "unavailable"}}
    active = (5_400 if running else 2_150) << 20
    pool = {"current": active, "peak": 5_800 << 20}
    system = {"free": (8_192 << 20) - active, "used": active, "total": 8_192 << 20}
    parts = {"active": pool, "allocated": pool, "reserved": pool, "inactive": {"current": 0, "peak": 512 << 20}}
    return {"ram": ram, "cuda": {"system": system, **parts, "events": {"retries": 0, "oom": 0}}}
