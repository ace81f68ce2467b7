"""What is said of the settings at every start, and of variables that look like one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from config import Config
from doctor.settings import holds, misspelt, weak_keys
from doctor.timeouts import planned
from simulator import Simulator
from tests.running import running_service, wait_until


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("APIKEYS", "API_KEYS"),
        ("api_keys", "API_KEYS"),
        ("Api_Key", "API_KEYS"),
        ("SD_API_KEYS", "API_KEYS"),
        ("SD_API_KEY", "API_KEYS"),
        ("SDAPI_API_KEYS", "API_KEYS"),
        ("STABLE_DIFFUSION_API_KEYS", "API_KEYS"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("trusted_proxies", "TRUSTED_PROXIES"),
        ("REDIS_URI", "REDIS_URL"),
        ("REDISURL", "REDIS_URL"),
        ("SD_REDIS_URL", "REDIS_URL"),
        ("IMAGES_DIR", "IMAGE_DIR"),
        ("CROS_ORIGINS", "CORS_ORIGINS"),
        ("CORSORIGINS", "CORS_ORIGINS"),
        ("RATELIMIT_GENERATION", "RATE_LIMIT_GENERATION"),
        ("WEBUI_URL", "SD_WEBUI_URL"),
        ("PUBLIC_URI", "PUBLIC_URL"),
    ],
)
def test_what_looks_like_a_setting(name: str, meant: str) -> None:
    (found,) = misspelt({name: "s3cr3t"})
    assert (found.level, found.remedy) == ("warning", f"call it {meant} if that is meant")
    assert name in found.text
    assert f"{meant} is not set" in found.text
    assert "s3cr3t" not in found.text
    assert misspelt({name: "s3cr3t", meant: "set"}) == [], "nothing opens where the setting itself is there"
    assert misspelt({name: " "}) == []


#: Of shells, containers, orchestrators, CI, proxies, and of programs that often share an env file with the service.
FOREIGN = """
    HOST HOSTNAME HOSTTYPE PORT PATH HOME USER LOGNAME SHELL TERM LANG LC_ALL TZ PWD OLDPWD SHLVL MAIL EDITOR
    PAGER TMPDIR DISPLAY XDG_RUNTIME_DIR XDG_CONFIG_HOME RUNTIME_DIRECTORY STATE_DIRECTORY LOGS_DIRECTORY
    CACHE_DIRECTORY INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET LISTEN_FDS MAINPID SSH_AUTH_SOCK
    DBUS_SESSION_BUS_ADDRESS host port http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
    ALL_PROXY FORWARDED_ALLOW_IPS PYTHONPATH PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE PYTHON_VERSION VIRTUAL_ENV
    PIP_INDEX_URL GUNICORN_CMD_ARGS WEB_CONCURRENCY PROMETHEUS_MULTIPROC_DIR SSL_CERT_FILE REQUESTS_CA_BUNDLE
    CURL_CA_BUNDLE KUBERNETES_SERVICE_HOST KUBERNETES_PORT KUBERNETES_PORT_443_TCP_ADDR REDIS_SERVICE_HOST
    REDIS_SERVICE_PORT REDIS_PORT REDIS_HOST REDIS_PASSWORD REDIS_DB REDIS_TLS_URL REDISCLOUD_URL REDIS_USERNAME
    VALKEY_URL SD_SERVICE_HOST SD_WEBUI_SERVICE_PORT AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
    AWS_REGION AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE OPENAI_API_KEY OPENAI_API_KEYS HF_TOKEN
    HUGGINGFACE_API_KEY CIVITAI_API_KEY STRIPE_API_KEY SENTRY_DSN DD_API_KEY DATABASE_URL POSTGRES_URL
    MYSQL_HOST MONGO_URI AMQP_URL CELERY_BROKER_URL SECRET_KEY FLASK_ENV FLASK_APP DEBUG NODE_ENV VITE_API_URL
    REACT_APP_API_URL NEXT_PUBLIC_URL API_URL BASE_URL APP_URL APP_PORT IMAGE IMAGE_TAG IMAGE_NAME IMAGES MODEL
    MODELS_DIR MODEL_PATH COMMANDLINE_ARGS CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES TORCH_HOME USE_CUDA CI
    GITHUB_ACTIONS GITHUB_TOKEN RUNNER_TEMP COMPOSE_PROJECT_NAME DOCKER_HOST LOG_LEVELS_FILE LOG_DIR LOG_FILE
    RATE_LIMIT MAX_PIXEL_COUNT STORAGE_DIR S3_BUCKET S3_URL MINIO_ROOT_USER TIMEOUT SD_PATH SD_HOME SDKMAN_DIR
"""


def test_what_others_put_into_the_environment_is_no_misspelling() -> None:
    assert [found.text for found in misspelt(dict.fromkeys(FOREIGN.split(), "x"))] == []
    assert misspelt({"SD_REDIS_URL": "tcp://10.0.0.1:6379"}) == [], "Kubernetes' own, of a service"


@pytest.mark.parametrize(
    ("given", "workers", "expected"),
    [
        (
            {},
            2,
            "open to every caller: API_KEYS is not set; rate limits counted in each worker; trusted proxies: 0",
        ),
        ({}, 1, "rate limits counted in one worker"),
        ({"API_KEYS": "s3cr3t-1,s3cr3t-2"}, 2, "API keys: 2; "),
        ({"REDIS_URL": "redis://:s3cr3t@host"}, 2, "rate limits counted in Redis, as sd-api;"),
        ({"TRUSTED_PROXIES": "2"}, 2, "trusted proxies: 2;"),
        ({"SD_WEBUI_URL": "http://u:s3cr3t@a,http://b"}, 2, "WebUIs: 2;"),
        ({"STORAGE_URL": "s3://pictures"}, 2, "images in a bucket"),
        ({}, 2, "images in a folder"),
    ],
)
def test_what_holds_in_one_line(given: dict[str, str], workers: int, expected: str) -> None:
    config = Config.from_env(given)
    line = holds(config, replace(planned(config), workers=workers))
    assert expected in line
    assert "s3cr3t" not in line
    assert "\n" not in line


@pytest.mark.parametrize(("keys", "weak"), [("", False), ("f" * 64, False), ("f" * 64 + ",short", True)])
def test_keys_that_can_be_guessed(keys: str, weak: bool) -> None:
    found = weak_keys(Config.from_env({"API_KEYS": keys}))
    assert [finding.level for finding in found] == ["warning"] * weak
    assert all("1 of 2" in finding.text and "short " not in finding.text for finding in found)


def test_it_is_told_at_the_start(simulator: Simulator, tmp_path: Path) -> None:
    with running_service(tmp_path, simulator.url, APIKEYS="s3cr3t") as service:
        wait_until(lambda: "WebUIs: 1" in service.printed, "the settings are told")
        service.wait_until_answering()
        lines = [json.loads(line) for line in service.printed.splitlines()]
    (summary,) = [line["message"] for line in lines if line["message"].startswith("settings: ")]
    assert summary.startswith("settings: open to every caller")
    (warned,) = [line for line in lines if "APIKEYS" in line["message"]]
    assert (warned["level"], "API_KEYS is not set" in warned["message"]) == ("WARNING", True)
    assert "s3cr3t" not in service.printed
