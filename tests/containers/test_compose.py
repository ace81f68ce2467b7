"""``deploy/compose.yaml``, read by Docker Compose itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import Config
from tests.containers.programs import DEPLOY, run
from tests.running import environment

_SETTINGS = {name.upper() for name in Config.model_fields}


def composed(**variables: str) -> dict[str, Any]:
    words = ("-f", str(DEPLOY / "compose.yaml"), "--profile", "simulators", "config", "--format", "json")
    done = run("docker-compose", *words, env=environment(variables))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return dict(composed()["services"])


def test_what_runs(services: dict[str, dict[str, Any]]) -> None:
    assert services.keys() == {"nginx", "api", "redis", "prometheus", "grafana", "simulator-1", "simulator-2"}
    assert services["api"]["deploy"]["replicas"] == 2
    assert services["api"]["build"].get("target") is None, "the last stage"


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = [service["image"] for service in services.values()]
    assert [image for image in images if not re.search(r":v?\d+\.\d+[\w.-]*$", image)] == []


def test_the_settings_are_ours_and_good(services: dict[str, dict[str, Any]]) -> None:
    given = {name: value for name, value in services["api"]["environment"].items() if value}
    assert given.keys() <= _SETTINGS
    Config.from_env(given)


def test_running_jobs_may_end(services: dict[str, dict[str, Any]]) -> None:
    grace = services["api"]["stop_grace_period"]
    minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", grace).groups("0")
    config = Config.from_env({k: v for k, v in services["api"]["environment"].items() if v})
    assert int(minutes) * 60 + int(seconds) >= config.graceful_timeout_s + 5


@pytest.mark.parametrize("name", ["api", "redis", "prometheus", "grafana", "simulator-1"])
def test_nothing_may_more_than_it_needs(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_your_own_webuis() -> None:
    environment = composed(SD_WEBUI_URL="http://gpu:7860")["services"]["api"]["environment"]
    assert environment["SD_WEBUI_URL"] == "http://gpu:7860"


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    written = tmp_path / "prometheus.yml"
    written.write_text(composed()["configs"]["prometheus"]["content"])
    (tmp_path / "rules.yml").write_text((DEPLOY / "prometheus" / "rules.yml").read_text())
    done = run("promtool", "check", "config", str(written))
    assert done.returncode == 0, done.stdout + done.stderr
    own = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    here = yaml.safe_load(written.read_text())
    assert [one["job_name"] for one in here["scrape_configs"]] == [one["job_name"] for one in own["scrape_configs"]]


def test_nginx_finds_the_service_by_the_name_it_has_there() -> None:
    """The same as the project's own ``upstream.conf`` but for the address."""
    own = "".join(re.sub(r"#.*", "", (DEPLOY / "nginx" / "upstream.conf").read_text()).split())
    here = "".join(composed()["configs"]["upstream"]["content"].split())
    assert here == own.replace("server127.0.0.1:5002max_fails=0;", "serverapi:5002max_fails=0;")


def test_what_is_mounted_is_there(services: dict[str, dict[str, Any]]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", []) if mount["type"] == "bind"]
    assert mounts
    for mount in mounts:
        path = DEPLOY / mount["source"].rpartition("/deploy/")[2]
        assert path.exists(), mount["source"]
