"""What the doctor says of real WebUIs, a real Redis and real folders, in order and out of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from config import Config
from doctor import images, webuis
from doctor.__main__ import examine
from doctor.findings import Finding, as_json, as_text, error, exit_status, ok, warning
from doctor.redis_server import check as check_redis
from simulator import Simulator
from simulator.flavours import NAMES
from tests.running import DEADLINE_S, ROOT, RedisServer, environment, free_port

#: For what hangs: nothing here that answers needs as long.
SHORT_S = 1.0


def settings(**given: str) -> Config:
    return Config.from_env(given)


def wrong(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]


@pytest.mark.parametrize("flavour", NAMES)
def test_every_flavour_in_order(flavour: str) -> None:
    with Simulator(flavour=flavour) as webui:
        findings = webuis.check(settings(SD_WEBUI_URL=webui.url))
    assert [one for one in wrong(findings) if flavour != "sdnext" or "schedulers" not in one.text] == []
    assert "models: " in findings[0].text
    assert "sd-v1-5 is v1-5-pruned-emaonly" in findings[-1].text


def test_reference_pictures(simulator: Simulator) -> None:
    texts = [found.text for found in webuis.check(settings(SD_WEBUI_URL=simulator.url))]
    assert any("by adapter and attention" in text and "2.5 GB" in text for text in texts)


@pytest.mark.parametrize(
    ("flavours", "expected"),
    [
        (["a1111"], "1 of 1 WebUIs that answer can enlarge pictures, with Lanczos, Nearest, 4x-UltraSharp"),
        (["a1111", "sdcpp"], "1 of 2 WebUIs that answer can enlarge pictures, with"),
        (["sdcpp", "koboldcpp"], "no WebUI can enlarge pictures: an upscale is answered 422 capability_missing"),
    ],
)
def test_whether_pictures_can_be_enlarged(flavours: list[str], expected: str) -> None:
    with ExitStack() as stack:
        urls = [stack.enter_context(Simulator(flavour=flavour)).url for flavour in flavours]
        findings = webuis.check(settings(SD_WEBUI_URL=",".join(urls)))
    assert wrong(findings) == []
    assert [expected in one.text for one in findings if one.subject == "upscalers"] == [True]


@pytest.mark.parametrize(
    ("flavour", "upscaler", "expected"),
    [
        ("a1111", "4x-ultrasharp", None),
        ("a1111", "nothing", "SD_UPSCALER, this service's default, is not an upscaler of this service"),
        ("a1111", "R-ESRGAN 4x+", "SD_UPSCALER, this service's default, is not an upscaler of this service"),
        ("sdcpp", "4x-ultrasharp", "enlarge"),
    ],
)
def test_a_default_upscaler(flavour: str, upscaler: str, expected: str | None) -> None:
    with Simulator(flavour=flavour) as webui:
        found = wrong(webuis.check(settings(SD_WEBUI_URL=webui.url, SD_UPSCALER=upscaler)))
    assert [(one.level, one.subject) for one in found] == ([("error", "upscalers")] if expected else [])
    assert all(expected in one.text and "SD_UPSCALER" in one.remedy for one in found)


def test_a_broken_list_is_told(simulator: Simulator) -> None:
    simulator.set_fault("error-json", route="loras")
    (found,) = wrong(webuis.check(settings(SD_WEBUI_URL=simulator.url)))
    assert found.level == "warning"
    assert "gives no usable answer to loras (the WebUI answered 500 (RuntimeError))" in found.text


@pytest.mark.parametrize(
    ("fault", "text", "remedy"),
    [
        ("disabled", "its API is off", "--api"),
        ("unauthorized", "refuses the user name", "--api-auth"),
        ("hang-before", "does not answer within", "hangs"),
        ("drip", "does not answer within", "hangs"),
        ("reset-after", "breaks connections off", "crashes"),
        ("not-json", "does not answer like a WebUI", "another program"),
        ("error-json", "answers with an error", "console"),
    ],
)
def test_a_webui_that_is_out_of_order(simulator: Simulator, fault: str, text: str, remedy: str) -> None:
    simulator.set_fault(fault, route="*")
    found, pool = webuis.check(settings(SD_WEBUI_URL=simulator.url), read_timeout_s=SHORT_S)
    assert (found.level, found.subject) == ("error", "webui 0")
    assert text in found.text
    assert remedy in found.remedy
    assert (pool.level, pool.subject) == ("error", "webuis")


def test_a_webui_that_is_not_there_beside_one_that_is(simulator: Simulator) -> None:
    away = f"http://user:pass%21word@127.0.0.1:{free_port()}"
    findings = webuis.check(settings(SD_WEBUI_URL=f"{away},{simulator.url}"))
    (found,) = wrong(findings)
    assert found.subject == "webui 0"
    assert "cannot be reached" in found.text
    assert "refused" in found.text
    assert not any("pass" in text for finding in findings for text in (finding.text, finding.remedy))


def test_a_listener_that_never_accepts_its_requests() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found, _ = webuis.check(settings(SD_WEBUI_URL=url), read_timeout_s=SHORT_S)
    assert "takes connections, but does not answer within 1 s" in found.text


def test_names_and_passwords() -> None:
    with Simulator(api_auth="me:secret") as webui:
        url = webui.url.replace("//", "//me:secret@")
        assert wrong(webuis.check(settings(SD_WEBUI_URL=url))) == []
        found, _ = webuis.check(settings(SD_WEBUI_URL=url.replace("secret", "other")))
    assert "refuses the user name and password" in found.text
    assert "other" not in found.text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"SD_MODEL": "nothing"},
            "model: none was given, and SD_MODEL, this service's default ('nothing'), is not a model",
        ),
        ({"SD_SAMPLER": "Eule"}, "('Eule'), is not a sampler of this service; did you mean 'Euler'?"),
        ({"SD_SCHEDULER": "nothing"}, "and SD_SCHEDULER, this service's default ('nothing'), is not offered"),
    ],
)
def test_defaults_that_no_webui_offers(simulator: Simulator, given: dict[str, str], expected: str) -> None:
    (found,) = wrong(webuis.check(settings(SD_WEBUI_URL=simulator.url, **given)))
    assert (found.level, found.subject) == ("error", "defaults")
    assert expected in found.text
    assert "SD_" in found.remedy


def test_files_of_one_name_with_other_weights(simulator: Simulator) -> None:
    with Simulator(weights="other") as second:
        (found,) = wrong(webuis.check(settings(SD_WEBUI_URL=f"{simulator.url},{second.url}")))
    assert (found.level, found.subject) == ("warning", "models")
    assert "the name means v1-5-pruned-emaonly.safetensors [" in found.text
    assert "the other one is 'v1-5-pruned-emaonly [" in found.text


def test_a_default_that_another_webui_offers_is_in_order(simulator: Simulator) -> None:
    with Simulator(models=("other.safetensors",)) as other:
        url = f"{simulator.url},{other.url}"
        assert wrong(webuis.check(settings(SD_WEBUI_URL=url, SD_MODEL="other"))) == []


@pytest.mark.parametrize(
    ("given", "levels"),
    [
        ({}, ["warning"]),
        ({"CPU_FALLBACK": "false"}, ["warning", "error"]),
        ({"USE_GPU": "false"}, []),
    ],
)
def test_without_a_gpu(given: dict[str, str], levels: list[str]) -> None:
    with Simulator(device="cpu") as webui:
        found = wrong(webuis.check(settings(SD_WEBUI_URL=webui.url, **given)))
    assert [finding.level for finding in found] == levels


def test_redis_in_order_and_away(redis_server: RedisServer) -> None:
    (found,) = check_redis(redis_server.url)
    assert found.level == "ok"
    assert "master" in found.text
    redis_server.freeze()
    (found,) = check_redis(redis_server.url)
    assert "does not answer within a quarter of a second" in found.text
    redis_server.thaw()
    redis_server.stop()
    (found,) = check_redis(redis_server.url)
    assert (found.level, found.text) == ("error", "it cannot be reached")


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_server.url)
    yield client
    client.close()


def test_a_redis_that_throws_away(redis_server: RedisServer, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", "100mb")
    assert wrong(check_redis(redis_server.url)) == []
    admin.config_set("maxmemory-policy", "allkeys-lru")
    (found,) = wrong(check_redis(redis_server.url))
    assert (found.level, found.remedy) == ("warning", "maxmemory-policy noeviction")


def test_a_redis_that_is_full(redis_server: RedisServer, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", "1")
    (full,) = wrong(check_redis(redis_server.url))
    assert (full.level, "refuses writes" in full.text) == ("error", True)


def test_a_replica(redis_server: RedisServer, admin: redis.Redis) -> None:
    admin.replicaof("127.0.0.1", str(free_port()))
    (found,) = wrong(check_redis(redis_server.url))
    assert (found.level, "redis+sentinel" in found.remedy) == ("error", True)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["+@all", "-@dangerous", "~*"], None),
        (["+@read", "+@connection", "~*"], "may not do what the service needs"),
        (["+@all", "~other:*"], "may not do what the service needs"),
    ],
)
def test_rights_of_its_user(
    redis_server: RedisServer, admin: redis.Redis, rules: list[str], expected: str | None
) -> None:
    admin.execute_command("ACL", "SETUSER", "sd", "on", ">pw", *rules)
    findings = check_redis(redis_server.url.replace("unix://", "unix://sd:pw@"))
    found = wrong(findings)
    assert [expected in finding.text for finding in found] == ([True] if expected else [])


def test_a_wrong_password(redis_server: RedisServer) -> None:
    (found,) = check_redis(redis_server.url.replace("unix://", "unix://sd:wrong@"))
    assert "refuses the password" in found.text


def test_images_in_order(tmp_path: Path) -> None:
    findings = images.check(settings(IMAGE_DIR=str(tmp_path / "images")))
    assert [finding.level for finding in findings] == ["ok"]
    assert "GB are free" in findings[0].text
    assert not list((tmp_path / "images" / ".incoming").iterdir())


def test_images_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("")
    (found,) = images.check(settings(IMAGE_DIR=str(tmp_path / "images")))
    assert (found.level, found.text) == ("error", "no image can be stored: missing")


def test_a_bucket_that_is_not_there() -> None:
    url = f"s3://pictures?endpoint=http://127.0.0.1:{free_port()}&allow_http=true"
    (found,) = images.check(settings(STORAGE_URL=url))
    assert found.level == "error"
    assert found.remedy


@pytest.mark.parametrize(("mode", "levels"), [(0o750, []), (0o700, ["error"])])
def test_a_folder_that_nginx_cannot_enter(tmp_path: Path, mode: int, levels: list[str]) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to("/tmp/"):
            folder.chmod(0o755)
    config = settings(IMAGE_DIR=str(tmp_path / "images"), SENDFILE_HEADER="X-Accel-Redirect", TRUSTED_PROXIES="1")
    (tmp_path / "images").mkdir(mode)
    assert [finding.level for finding in wrong(images.check(config))] == levels


def test_a_runtime_folder_of_everybody(tmp_path: Path) -> None:
    assert images.check_runtime_folder(settings(RUNTIME_DIR=str(tmp_path / "run")))[0].level == "ok"
    (tmp_path / "run").chmod(0o777)
    assert images.check_runtime_folder(settings(RUNTIME_DIR=str(tmp_path / "run")))[0].level == "error"


def test_a_runtime_folder_that_takes_no_files(tmp_path: Path) -> None:
    (tmp_path / f"{os.getpid()}.probe").mkdir()  # where the probe would be
    tmp_path.chmod(0o700)
    (found,) = images.check_runtime_folder(settings(RUNTIME_DIR=str(tmp_path)))
    assert (found.level, found.text) == ("error", "RUNTIME_DIR: cannot be written (Is a directory)")


def test_everything_at_once(simulator: Simulator, tmp_path: Path) -> None:
    folders = {"IMAGE_DIR": str(tmp_path / "images"), "RUNTIME_DIR": str(tmp_path / "run")}
    findings = examine(settings(SD_WEBUI_URL=simulator.url, **folders))
    assert [finding.subject for finding in wrong(findings)] == ["rate limits"]
    assert exit_status(findings) == 1


@pytest.mark.parametrize(
    ("findings", "status"),
    [([], 0), ([ok("a", "b")], 0), ([ok("a", "b"), warning("a", "b", "c")], 1), ([error("a", "b", "c")], 2)],
)
def test_exit_status(findings: list[Finding], status: int) -> None:
    assert exit_status(findings) == status
    assert json.loads(as_json(findings))["status"] == ["ok", "warning", "error"][status]


def test_text() -> None:
    text = as_text([ok("short", "fine"), error("much longer", "wrong " * 30, "mend it")])
    first, second, *rest = text.splitlines()
    assert first == "ok       short        fine"
    assert second.startswith("error    much longer  wrong wrong")
    assert "-> mend it" in "".join(rest)
    assert max(map(len, text.splitlines())) <= 110
    assert text.endswith("errors: 1, warnings: 0, in order: 1")


def run(*arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "doctor", *arguments]
    return subprocess.run(
        command, env=environment(given), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_the_command(simulator: Simulator, tmp_path: Path) -> None:
    folders = {"IMAGE_DIR": str(tmp_path / "images"), "RUNTIME_DIR": str(tmp_path / "run")}
    secret = simulator.url.replace("//", "//me:hush@")
    result = run("--json", SD_WEBUI_URL=secret, TRUSTED_PROXIES="1", API_KEYS="hush", **folders)
    assert (result.returncode, result.stderr) == (1, "")
    assert json.loads(result.stdout)["status"] == "warning"
    assert "hush" not in result.stdout


def test_the_command_with_settings_that_cannot_be_read() -> None:
    result = run(SD_TIMEOUT="soon", REDIS_URL="http://me:hush@redis")
    assert (result.returncode, result.stderr) == (2, "")
    assert "SD_TIMEOUT" in result.stdout
    assert "REDIS_URL" in result.stdout
    assert "hush" not in result.stdout


def test_sentinels_that_are_away() -> None:
    (found,) = check_redis(f"redis+sentinel://:hush@127.0.0.1:{free_port()}/mymaster")
    assert (found.level, found.text) == ("error", "no Sentinel knows where the master is")
