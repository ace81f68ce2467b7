"""A WebUI's settings: defaults, what config.json holds, and the leak between the two."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from simulator.errors import CrashError

RESTRICTED = frozenset({"api_enable_requests", "api_forbid_local_requests", "api_useragent"})
OUTPUTS = "/opt/stable-diffusion-webui/outputs"

DEFAULTS: dict[str, Any] = {
    "samples_save": True,
    "samples_format": "png",
    "samples_filename_pattern": "",
    "grid_save": True,
    "grid_format": "png",
    "grid_only_if_multiple": True,
    "jpeg_quality": 80,
    "webp_lossless": False,
    "save_init_img": False,
    "outdir_samples": "",
    "outdir_txt2img_samples": f"{OUTPUTS}/txt2img-images",
    "outdir_img2img_samples": f"{OUTPUTS}/img2img-images",
    "outdir_extras_samples": f"{OUTPUTS}/extras-images",
    "outdir_grids": "",
    "outdir_txt2img_grids": f"{OUTPUTS}/txt2img-grids",
    "outdir_img2img_grids": f"{OUTPUTS}/img2img-grids",
    "face_restoration": False,
    "face_restoration_model": "CodeFormer",
    "code_former_weight": 0.5,
    "api_enable_requests": True,
    "api_forbid_local_requests": True,
    "api_useragent": "",
    "sd_model_checkpoint": None,
    "sd_checkpoints_limit": 1,
    "sd_checkpoints_keep_in_cpu": True,
    "sd_checkpoint_cache": 0,
    "sd_unet": "Automatic",
    "emphasis": "Original",
    "CLIP_stop_at_last_layers": 1,
    "upcast_attn": False,
    "randn_source": "GPU",
    "tiling": False,
    "sd_vae": "Automatic",
    "sd_vae_checkpoint_cache": 0,
    "inpainting_mask_weight": 1.0,
    "initial_noise_multiplier": 1.0,
    "img2img_color_correction": False,
    "img2img_fix_steps": False,
    "img2img_background_color": "#ffffff",
    "return_mask": False,
    "return_mask_composite": False,
    "overlay_inpaint": True,
    "cross_attention_optimization": "Automatic",
    "s_min_uncond": 0.0,
    "token_merging_ratio": 0.0,
    "return_grid": True,
    "do_not_show_images": False,
    "sd_hypernetwork": "None",
    "enable_pnginfo": True,
    "save_txt": False,
    "add_model_name_to_info": True,
    "add_model_hash_to_info": True,
    "add_version_to_infotext": True,
    "show_progressbar": True,
    "live_previews_enable": True,
    "live_previews_image_format": "png",
    "show_progress_every_n_steps": 10,
    "show_progress_type": "Approx NN",
    "eta_ddim": 0.0,
    "eta_ancestral": 1.0,
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_tmax": 0.0,
    "s_noise": 1.0,
    "eta_noise_seed_delta": 0,
    "always_discard_next_to_last_sigma": False,
    "disabled_extensions": [],
    "disable_all_extensions": "none",
    "sd_checkpoint_hash": "",
    "sd_lora": "None",
}


class Options:
    """Values set by somebody (`config`) over defaults. Safe from several threads.

    Only what already stands in config is put back after `override_settings`: on a fresh server an
    override of anything else stays, for everybody. That is what the real one does.
    """

    def __init__(self, defaults: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._lock = threading.Lock()
        self._defaults = dict(defaults)
        self._config = dict(config)

    def get(self, key: str) -> Any:
        """One value."""
        with self._lock:
            return self._config.get(key, self._defaults.get(key))

    def all(self) -> dict[str, Any]:
        """Every value in the order of the defaults."""
        with self._lock:
            return {key: self._config.get(key, value) for key, value in self._defaults.items()}

    def set(self, key: str, value: Any) -> None:
        """Change one, whatever its type; those that no API may change stay silently as they are.

        :raises CrashError: there is no such option (and the value is not null).
        """
        with self._lock:
            if self._config.get(key) == value:
                return
            if key not in self._defaults:
                raise CrashError("KeyError", repr(key))
            if key not in RESTRICTED:
                self._config[key] = value

    @contextmanager
    def overridden(self, settings: Mapping[str, Any], *, restore: bool) -> Iterator[None]:
        """Set several for a while."""
        with self._lock:
            stored = {key: self._config[key] for key in settings if key in self._config}
        try:
            for key, value in settings.items():
                self.set(key, value)
            yield
        finally:
            if restore:
                with self._lock:
                    self._config.update(stored)
