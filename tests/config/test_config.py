"""Settings: each one parsed, every problem told at once, no secret shown."""

from __future__ import annotations

import os
import tempfile

import certifi
import pytest
from pydantic import ValidationError

from config import Config, ConfigError

DEFAULTS: dict[str, object] = {
    "sd_webui_url": ("http://localhost:7860",),
    "sd_webui_slots": 1,
    "sd_webui_ca_bundle": None,
    "sd_model": "sd-v1-5",
    "sd_model_switch_patience": 5.0,
    "sd_model_aliases": {},
    "sd_sampler": None,
    "sd_scheduler": None,
    "sd_upscaler": None,
    "sd_clip_skip": 1,
    "use_gpu": True,
    "cpu_fallback": True,
    "sd_timeout": 300.0,
    "sd_queue_timeout": 120.0,
    "sd_queue_limit": 64,
    "host": "0.0.0.0",
    "port": 5002,
    "public_url": None,
    "max_body_mb": 32.0,
    "trusted_proxies": 0,
    "cors_origins": (),
    "api_keys": (),
    "doors": ("a1111", "openai"),
    "studio": True,
    "max_prompt_chars": 10_000,
    "max_steps": 150,
    "max_pixels": 1536 * 1536,
    "max_hires_pixels": 2048 * 2048,
    "max_upscale_pixels": 4096 * 4096,
    "max_batch_size": 4,
    "max_input_pixels": 8192 * 6144,
    "image_dir": "./data/images",
    "storage_url": None,
    "sendfile_header": None,
    "image_ttl_hours": None,
    "image_max_gb": None,
    "runtime_dir": f"{tempfile.gettempdir()}/stable-diffusion-api-{os.getuid()}",
    "redis_url": None,
    "redis_prefix": "sd-api",
    "rate_limit_global": "50/minute;500/hour",
    "rate_limit_generation": "10/minute",
    "rate_limit_images": None,
    "log_level": "INFO",
    "log_format": "json",
}

#: With certificates in it, as every system has one.
BUNDLE = certifi.where()

GIVEN: list[tuple[str, str, object]] = [
    ("SD_WEBUI_CA_BUNDLE", BUNDLE, BUNDLE),
    ("SD_WEBUI_URL", "https://gpu.example:7860/webui/", ("https://gpu.example:7860/webui",)),
    ("SD_WEBUI_URL", "http://us%40er:p%2Fw@10.0.0.1", ("http://us%40er:p%2Fw@10.0.0.1",)),
    (
        "SD_WEBUI_URL",
        "http://a:7860, http://a:7861/,http://a:7860/sd,",
        ("http://a:7860", "http://a:7861", "http://a:7860/sd"),
    ),
    ("SD_MODEL_SWITCH_PATIENCE", "0", 0.0),
    ("SD_WEBUI_URL", "http://[::1]:7860", ("http://[::1]:7860",)),
    ("SD_WEBUI_SLOTS", "2", 2),
    ("SD_MODEL", "sdxl", "sdxl"),
    ("SD_MODEL_ALIASES", "house=dreamshaper_8, fast = sd_xl_turbo", {"house": "dreamshaper_8", "fast": "sd_xl_turbo"}),
    ("SD_MODEL_ALIASES", "odd=a=b", {"odd": "a=b"}),
    ("SD_SAMPLER", "Euler a", "Euler a"),
    ("SD_SCHEDULER", "Karras", "Karras"),
    ("SD_UPSCALER", "4x-UltraSharp", "4x-UltraSharp"),
    ("SD_CLIP_SKIP", "2", 2),
    ("USE_GPU", "false", False),
    ("USE_GPU", "1", True),
    ("CPU_FALLBACK", "0", False),
    ("SD_TIMEOUT", "12.5", 12.5),
    ("SD_QUEUE_TIMEOUT", "0", 0.0),
    ("SD_QUEUE_LIMIT", "0", 0),
    ("HOST", "127.0.0.1", "127.0.0.1"),
    ("HOST", "::", "::"),
    ("HOST", "[::1]", "::1"),
    ("HOST", "gpu-1.internal", "gpu-1.internal"),
    ("PORT", "8080", 8080),
    ("PUBLIC_URL", "https://example.com/ai/", "https://example.com/ai"),
    ("MAX_BODY_MB", "0.5", 0.5),
    ("TRUSTED_PROXIES", "2", 2),
    ("CORS_ORIGINS", "https://a.example, https://b.example", ("https://a.example", "https://b.example")),
    ("CORS_ORIGINS", "*", ("*",)),
    ("CORS_ORIGINS", "HTTPS://Shop.Example:443,http://localhost:80", ("https://shop.example", "http://localhost")),
    ("CORS_ORIGINS", "https://*.shop.example:8443", ("https://*.shop.example:8443",)),
    ("CORS_ORIGINS", "http://*.localhost:03000", ("http://*.localhost:3000",)),
    ("CORS_ORIGINS", "http://[0:0:0:0:0:0:0:1]:3000", ("http://[::1]:3000",)),
    ("CORS_ORIGINS", "capacitor://localhost", ("capacitor://localhost",)),
    ("API_KEYS", "one, two,", ("one", "two")),
    ("API_KEYS", "kéy,it's,a$b", ("kéy", "it's", "a$b")),
    ("DOORS", "openai", ("openai",)),
    ("DOORS", "openai, a1111", ("openai", "a1111")),
    ("DOORS", "none", ()),
    ("STUDIO", "false", False),
    ("MAX_PROMPT_CHARS", "500", 500),
    ("MAX_STEPS", "60", 60),
    ("MAX_PIXELS", "1048576", 1048576),
    ("MAX_HIRES_PIXELS", "1048576", 1048576),
    ("MAX_UPSCALE_PIXELS", "1048576", 1048576),
    ("MAX_BATCH_SIZE", "8", 8),
    ("MAX_INPUT_PIXELS", "1000000", 1_000_000),
    ("IMAGE_DIR", "/srv/images", "/srv/images"),
    ("IMAGE_DIR", "./with:colon", "./with:colon"),
    ("STORAGE_URL", "s3://pictures/a/b?region=eu-central-1", "s3://pictures/a/b?region=eu-central-1"),
    ("SENDFILE_HEADER", "X-Accel-Redirect", "X-Accel-Redirect"),
    ("IMAGE_TTL_HOURS", "0.5", 0.5),
    ("IMAGE_MAX_GB", "20", 20.0),
    ("RUNTIME_DIR", "/run/sd", "/run/sd"),
    ("REDIS_URL", "rediss://:secret@redis.example:6379/0", "rediss://:secret@redis.example:6379/0"),
    ("REDIS_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("REDIS_URL", "unix:///run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
    ("REDIS_URL", "rediss://redis.example/?ssl_ca_certs=/ca.pem", "rediss://redis.example/?ssl_ca_certs=/ca.pem"),
    ("REDIS_URL", "redis+sentinel://a,b:26380,[::1]/mymaster", "redis+sentinel://a,b:26380,[::1]/mymaster"),
    (
        "REDIS_URL",
        "redis+sentinel://user:p%40ss@a:1,b:2/mymaster/3?sentinel_password=p%26s",
        "redis+sentinel://user:p%40ss@a:1,b:2/mymaster/3?sentinel_password=p%26s",
    ),
    (
        "REDIS_URL",
        "rediss+sentinel://a/main?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&sentinel_username=me",
        "rediss+sentinel://a/main?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&sentinel_username=me",
    ),
    ("RATE_LIMIT_GLOBAL", "5/second;100/minute", "5/second;100/minute"),
    ("RATE_LIMIT_GENERATION", "1 per 10 seconds", "1 per 10 seconds"),
    ("RATE_LIMIT_IMAGES", "600/minute", "600/minute"),
    ("REDIS_PREFIX", "shop:pictures", "shop:pictures"),
    ("LOG_LEVEL", "debug", "DEBUG"),
    ("LOG_FORMAT", "text", "text"),
]

WRONG: list[tuple[str, str, str]] = [
    ("SD_WEBUI_URL", "localhost:7860", "must be http://host:port"),
    ("SD_WEBUI_URL", "ftp://host", "must be http://host:port"),
    ("SD_WEBUI_URL", "http://", "must be http://host:port"),
    ("SD_WEBUI_URL", "http://host:99999", "is not a URL"),
    ("SD_WEBUI_URL", "http://host?x=1", "query or a fragment"),
    ("SD_WEBUI_URL", "http://host#top", "query or a fragment"),
    ("SD_WEBUI_URL", "http://ho st:7860", "white space"),
    ("SD_WEBUI_URL", "http://a:7860, http://a:7860/", "names the same WebUI twice"),
    ("SD_WEBUI_URL", "http://a:7860,http://u:p@A:7860", "names the same WebUI twice"),
    ("SD_WEBUI_URL", "http://localhost:7860,http://127.0.0.1:7860", "names the same WebUI twice"),
    ("SD_WEBUI_URL", "http://[::1]:7860/sd,https://LOCALHOST:7860/sd/", "names the same WebUI twice"),
    ("SD_WEBUI_URL", "http://a,http://a:80", "names the same WebUI twice"),
    ("SD_WEBUI_URL", "http://a:7860,http://a:7860/sdapi/v1", "names the same WebUI twice"),
    ("SD_WEBUI_CA_BUNDLE", "/nowhere/ca.pem", "cannot be used (No such file or directory)"),
    ("SD_WEBUI_CA_BUNDLE", __file__, "cannot be used (contains no certificate in PEM format)"),
    ("SD_MODEL_SWITCH_PATIENCE", "-1", "greater than or equal to 0"),
    ("SD_WEBUI_URL", ",", "is set, but names nothing"),
    ("SD_WEBUI_SLOTS", "0", "greater than or equal to 1"),
    ("SD_WEBUI_SLOTS", "9", "less than or equal to 8"),
    ("SD_MODEL_ALIASES", "house", "must be alias=model"),
    ("SD_MODEL_ALIASES", "=dreamshaper", "must be alias=model"),
    ("SD_MODEL_ALIASES", "a=x,a=y", "names the same alias twice"),
    ("USE_GPU", "maybe", "valid boolean"),
    ("SD_TIMEOUT", "0", "greater than or equal to 1"),
    ("SD_TIMEOUT", "nan", "86400"),
    ("SD_TIMEOUT", "inf", "86400"),
    ("SD_TIMEOUT", "5m", "valid number"),
    ("SD_QUEUE_TIMEOUT", "-1", "greater than or equal to 0"),
    ("SD_QUEUE_LIMIT", "1.5", "valid integer"),
    ("HOST", "http://0.0.0.0", "without a port"),
    ("HOST", "0.0.0.0:5002", "without a port"),
    ("HOST", "0.0.0.0 127.0.0.1", "without a port"),
    ("PORT", "0", "greater than or equal to 1"),
    ("PORT", "65536", "less than or equal to 65535"),
    ("PUBLIC_URL", "/ai", "absolute http(s) URL"),
    ("PUBLIC_URL", "https://user:secret@example.com", "user name or password"),
    ("PUBLIC_URL", "https://paint.example/my shop", "white space"),
    ("PUBLIC_URL", "https://bücher.example", "must be ASCII"),
    ("PUBLIC_URL", "https://paint.example/<shop>", "must be ASCII"),
    ("MAX_BODY_MB", "0", "greater than or equal to 0.1"),
    ("TRUSTED_PROXIES", "yes", "valid integer"),
    ("CORS_ORIGINS", ",", "is set, but names nothing"),
    ("CORS_ORIGINS", "https://shop.example/", "no slash at the end"),
    ("CORS_ORIGINS", "https://shop.example/cart", "no slash at the end"),
    ("CORS_ORIGINS", "shop.example", "a scheme, a host"),
    ("CORS_ORIGINS", "localhost:3000", "a scheme, a host"),
    ("CORS_ORIGINS", "//shop.example", "a scheme, a host"),
    ("CORS_ORIGINS", "https://a.example https://b.example", "must be * alone, or origins"),
    ("CORS_ORIGINS", "https://user@shop.example", "must be * alone, or origins"),
    ("CORS_ORIGINS", "https://shop..example", "must be * alone, or origins"),
    ("CORS_ORIGINS", "https://bücher.example", "must be * alone, or origins"),
    ("CORS_ORIGINS", "null", "must be * alone, or origins"),
    ("CORS_ORIGINS", "https://shop.example:99999", "a port between 1 and 65535"),
    ("CORS_ORIGINS", "https://[::g]", "must be * alone, or origins"),
    ("CORS_ORIGINS", "https://[1:2]", "no IPv6 address"),
    ("CORS_ORIGINS", "https://*shop.example", "may contain * only as"),
    ("CORS_ORIGINS", "https://shop.*", "may contain * only as"),
    ("CORS_ORIGINS", "https://*.*.example", "may contain * only as"),
    ("CORS_ORIGINS", "*.shop.example", "may contain * only as"),
    ("CORS_ORIGINS", "https://*", "may contain * only as"),
    ("CORS_ORIGINS", "https://shop.example:*", "may contain * only as"),
    ("CORS_ORIGINS", ".*", "may contain * only as"),
    ("CORS_ORIGINS", r"https://.+\.shop\.example", "must be * alone, or origins"),
    ("CORS_ORIGINS", "https://*.com", "a domain behind *."),
    ("CORS_ORIGINS", "*,https://shop.example", "has * beside other origins"),
    ("API_KEYS", " , ", "is set, but names nothing"),
    ("API_KEYS", "secret,x", "a key of one character"),
    ("API_KEYS", "one two", "white space; keys are separated by commas"),
    ("MAX_PROMPT_CHARS", "0", "greater than or equal to 1"),
    ("MAX_STEPS", "20 steps", "valid integer"),
    ("MAX_PIXELS", "1000", "greater than or equal to 262144"),
    ("MAX_PIXELS", "99999999", "less than or equal to 4194304"),
    ("MAX_BATCH_SIZE", "17", "less than or equal to 16"),
    ("MAX_INPUT_PIXELS", "1", "greater than or equal to 256"),
    ("STORAGE_URL", "/srv/images", "it is not s3://"),
    ("STORAGE_URL", "s3:///prefix", "the bucket's name must have"),
    ("STORAGE_URL", "https://pictures.s3.amazonaws.com", "it is not s3://"),
    ("STORAGE_URL", "s3://AKIA:secret@pictures", "credentials do not belong in it"),
    ("IMAGE_TTL_HOURS", "0", "greater than 0"),
    ("IMAGE_MAX_GB", "-1", "greater than 0"),
    ("REDIS_URL", "redis.example:6379", "must be redis://"),
    ("REDIS_URL", "redis://redis.example/main", "must have the number of its database"),
    ("REDIS_URL", "redis://redis.example/0/1", "must have the number of its database"),
    ("REDIS_URL", "redis://redis.example?db=main", "has a parameter that is unknown"),
    ("REDIS_URL", "redis://redis.example/0?wait=1", "has a parameter that is unknown"),
    ("REDIS_URL", "rediss://redis.example/0?ssl_cert_reqs=maybe", "has a parameter that is unknown"),
    ("REDIS_URL", "redis+sentinel://a:1,b:2", "must be redis+sentinel://"),
    ("REDIS_URL", "redis+sentinel://a:1/mymaster/zero", "must be redis+sentinel://"),
    ("REDIS_URL", "redis+sentinel:///mymaster", "must be redis+sentinel://"),
    ("REDIS_URL", "redis+sentinel://a/mymaster?socket_timeout=9", "has a parameter that is unknown"),
    ("REDIS_URL", "redis+sentinel://a/mymaster?sentinel_password=", "has a parameter that is unknown"),
    ("REDIS_URL", "redis+sentinel://a/m?sentinel_password=b&sentinel_password=c", "has a parameter that is unknown"),
    ("REDIS_URL", "redis+sentinel://a/mymaster?ssl_ca_certs=/ca.pem", "has a parameter that is unknown"),
    ("REDIS_URL", "rediss+sentinel://a/mymaster?ssl_flavour=mint", "has a parameter that is unknown"),
    ("REDIS_URL", "rediss+sentinel://a/mymaster?ssl_cert_reqs=maybe", "has a parameter that is unknown"),
    ("REDIS_URL", "rediss+sentinel://a/mymaster?db=2", "has a parameter that is unknown"),
    ("REDIS_URL", "redis+sentinel://a,,b/mymaster", "must name its Sentinels"),
    ("REDIS_URL", "redis+sentinel://a:1,b:port/mymaster", "is not a URL"),
    ("REDIS_URL", "redis+cluster://a:1,b:2", "Redis Cluster is not supported"),
    ("RATE_LIMIT_GLOBAL", "often", "must be limits such as"),
    ("RATE_LIMIT_GLOBAL", "50/minute;0/hour", "must allow at least one request"),
    ("RATE_LIMIT_GENERATION", "10/fortnight", "must be limits such as"),
    ("RATE_LIMIT_IMAGES", "none", "must be limits such as"),
    ("REDIS_PREFIX", "two words", "must be 1 to 64 letters, digits"),
    ("REDIS_URL", "redis://redis.example/ 0", "white space"),
    ("STORAGE_URL", "s3://pictures/my shop", "the prefix must have letters"),
    ("LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ("LOG_FORMAT", "xml", "'json' or 'text'"),
]


def test_the_address_of_its_api_is_understood_as_the_webuis() -> None:
    given = "http://a:7860/sdapi/v1, http://me:word@b/sd/sdapi/v1/"
    assert Config.from_env({"SD_WEBUI_URL": given}).sd_webui_url == ("http://a:7860", "http://me:word@b/sd")


def problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Config.from_env(environ)
    title, *lines = str(caught.value).split("\n  ")
    assert title == "invalid configuration:"
    return lines


def unset() -> dict[str, object]:
    return Config.from_env({}).model_dump()


def test_defaults() -> None:
    assert Config.from_env({}).model_dump() == DEFAULTS


def test_the_tables_above_miss_no_setting() -> None:
    assert {name.lower() for name, *_ in GIVEN} == DEFAULTS.keys() == Config.model_fields.keys()


@pytest.mark.parametrize(("name", "text", "value"), GIVEN)
def test_every_setting_is_parsed(name: str, text: str, value: object) -> None:
    assert Config.from_env({name: f" {text} "}).model_dump() == {**unset(), name.lower(): value}


@pytest.mark.parametrize(("name", "text", "message"), WRONG)
def test_every_wrong_value_is_refused(name: str, text: str, message: str) -> None:
    (problem,) = problems_of({name: text})
    assert problem.startswith(f"{name}: ")
    assert message in problem


def test_every_problem_is_told_at_once() -> None:
    # Of the cases that share a setting, the last.
    environ = {name: text for name, text, _ in WRONG} | {"MAX_STEP": "20"}
    found = problems_of(environ)
    assert sorted(problem.partition(":")[0] for problem in found) == sorted(environ)


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name != "runtime_dir"])
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_counts_as_unset(name: str, empty: str) -> None:
    assert Config.from_env({name.upper(): empty}).model_dump() == unset()


#: What each type of setting is given, where its text matters.
TEXTS = {
    **{name.upper(): str(value) for name, value in DEFAULTS.items() if value not in ((), {}, None)},
    **{name: text for name, text, _ in GIVEN},
    "SD_WEBUI_URL": "http://gpu:7860",
    "RUNTIME_DIR": "/run/sd",
}


@pytest.mark.parametrize(
    ("left", "named"),
    [
        ('"{}"', "quotation marks"),
        ("'{}'", "quotation marks"),
        ('"{}', "quotation marks"),
        ("{}'", "quotation marks"),
        ("\u201c{}\u201d", "quotation marks"),
        ('"{}","another"', "quotation marks"),
        ("${{SHOP_SETTING}}{}", "the variable SHOP_SETTING"),
        ("${{SHOP_SETTING:-s3cr3t}}{}", "the variable SHOP_SETTING"),
        ("{}\nx", "invisible character (U+000A)"),
        ("\ufeff{}", "invisible character (U+FEFF)"),
        ("{}\u00a0x", "invisible character (U+00A0)"),
        ("{}\x00", "invisible character (U+0000)"),
    ],
)
def test_what_an_env_file_leaves_in_a_text(left: str, named: str) -> None:
    for name, text in TEXTS.items():
        (problem,) = problems_of({name: left.format(text)})
        assert problem.startswith(f"{name}: ")
        assert named in problem
        assert "s3cr3t" not in problem


@pytest.mark.parametrize("url", ["s3://pictures", "file:///srv/images"])
def test_a_folder_is_no_url(url: str) -> None:
    (problem,) = problems_of({"IMAGE_DIR": url})
    assert problem.startswith("IMAGE_DIR: must be a path")


def test_images_are_kept_in_one_place() -> None:
    (problem,) = problems_of({"STORAGE_URL": "s3://pictures", "IMAGE_DIR": "/srv/images"})
    assert problem == "STORAGE_URL: cannot be set together with IMAGE_DIR: images are kept in one place"
    assert Config.from_env({"STORAGE_URL": "s3://pictures", "IMAGE_DIR": ""}).storage_url == "s3://pictures"


def test_nginx_can_send_files_only() -> None:
    (problem,) = problems_of({"STORAGE_URL": "s3://pictures", "SENDFILE_HEADER": "X-Accel-Redirect"})
    assert problem == "SENDFILE_HEADER: cannot be set together with STORAGE_URL: nginx sends files of IMAGE_DIR only"
    (problem,) = problems_of({"SENDFILE_HEADER": "X-Sendfile"})
    assert problem == "SENDFILE_HEADER: Input should be 'X-Accel-Redirect'"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SD_WEBUI_URLS", "SD_WEBUI_URL"),
        ("SD_WEBUI_SLOT", "SD_WEBUI_SLOTS"),
        ("SD_MODEL_ALIAS", "SD_MODEL_ALIASES"),
        ("API_KEY", "API_KEYS"),
        ("CORS_ORIGIN", "CORS_ORIGINS"),
        ("MAX_STEP", "MAX_STEPS"),
        ("RATE_LIMIT_GENERATIONS", "RATE_LIMIT_GENERATION"),
        ("TRUSTED_PROXY", None),
        ("IMAGE_TTL_HOUR", "IMAGE_TTL_HOURS"),
        ("STORAGE_URLS", "STORAGE_URL"),
    ],
)
def test_misspellings(name: str, meant: str | None) -> None:
    if meant is None:  # too far from the setting to be sure
        assert Config.from_env({name: "1"}).model_dump() == unset()
    else:
        assert problems_of({name: "1"}) == [f"{name}: unknown setting; did you mean {meant}?"]


def test_what_others_put_into_the_environment_is_left_alone() -> None:
    kubernetes = {
        "SD_WEBUI_PORT": "tcp://10.0.0.1:7860",
        "SD_WEBUI_PORT_7860_TCP": "tcp://10.0.0.1:7860",
        "SD_WEBUI_PORT_7860_TCP_ADDR": "10.0.0.1",
        "SD_WEBUI_PORT_7860_TCP_PORT": "7860",
        "SD_WEBUI_PORT_7860_TCP_PROTO": "tcp",
        "SD_WEBUI_SERVICE_HOST": "10.0.0.1",
        "SD_WEBUI_SERVICE_PORT": "7860",
        "REDIS_PORT": "tcp://10.0.0.2:6379",
        "REDIS_SERVICE_HOST": "10.0.0.2",
    }
    usual = {"PATH": "/bin", "HOSTNAME": "pod-1", "HOME": "/root", "LOGNAME": "root", "LOG_LEVELS_FILE": "x"}
    assert Config.from_env(kubernetes | usual).model_dump() == unset()
    assert Config.from_env(dict(os.environ) | {name.upper(): "" for name in DEFAULTS}).sd_webui_slots == 1


SECRETS = [
    {"API_KEYS": "s3cr3t"},
    {"REDIS_URL": "redis://:s3cr3t@redis.example"},
    {"SD_WEBUI_URL": "http://user:s3cr3t@webui.example:7860"},
]
SECRETS_IN_WRONG_PLACES = [
    {"SD_WEBUI_URL": "http://user:s3cr3t/x@webui.example:7860"},
    {"SD_WEBUI_URL": "http://user:1/s3cr3t@webui.example:7860"},
    {"SD_WEBUI_URL": "http://user:a[s3cr3t]b@webui.example"},
    {"SD_WEBUI_URL": "http://user:s3cr3t\u2100@webui.example"},
    {"SD_WEBUI_URL": "http://user:s3cr3t?@webui.example"},
    {"SD_WEBUI_URL": "http://user:s3cr3t#@webui.example"},
    {"SD_WEBUI_URL": "http://user:1,s3cr3t@webui.example"},
    {"SD_WEBUI_URL": "http://:s3cr3t@webui.example"},
    {"SD_WEBUI_URL": "user:s3cr3t@webui.example"},
    {"REDIS_URL": "http://:s3cr3t@redis.example"},
    {"REDIS_URL": "redis://:s3cr3t[@redis.example"},
    {"REDIS_URL": "redis://:s3cr3t@redis.example/0?db=s3cr3t"},
    {"REDIS_URL": "redis+sentinel://:s3cr3t@a,b"},
    {"REDIS_URL": "redis+sentinel://:s3cr3t/x@a/mymaster"},
    {"REDIS_URL": "redis+sentinel://a/mymaster?password=s3cr3t"},
    {"REDIS_URL": "rediss+sentinel://a/mymaster?ssl_password=s3cr3t&ssl_cert_reqs=s3cr3t"},
    {"REDIS_URL": "redis+cluster://:s3cr3t@a"},
    {"PUBLIC_URL": "https://user:s3cr3t@example.com"},
    {"STORAGE_URL": "s3://AKIA:s3cr3t@pictures"},
    {"STORAGE_URL": "s3://AKIA:s3cr3t/x@pictures"},
    {"STORAGE_URL": "s3://AKIA:s3cr3t"},
    {"SD_MODEL_ALIASES": "s3cr3t"},
]


@pytest.mark.parametrize("environ", SECRETS)
def test_a_secret_is_not_shown_with_the_settings(environ: dict[str, str]) -> None:
    config = Config.from_env(environ)
    assert "s3cr3t" not in f"{config!r} {config}"
    assert "s3cr3t" not in str(problems_of({**environ, "PORT": "none"}))


@pytest.mark.parametrize("environ", SECRETS_IN_WRONG_PLACES)
def test_a_secret_is_not_shown_in_a_problem(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_env(environ)
    assert "s3cr3t" not in str(caught.value)


def test_settings_are_frozen() -> None:
    config = Config.from_env({})
    with pytest.raises(ValidationError):
        config.port = 1  # type: ignore[misc]


def test_max_body_bytes() -> None:
    assert Config.from_env({"MAX_BODY_MB": "0.5"}).max_body_bytes == 512 * 1024
