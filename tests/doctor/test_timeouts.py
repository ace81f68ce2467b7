"""Who waits for whom, and where that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config import KEEPALIVE_S, Config
from doctor import nginx
from doctor.findings import Finding
from doctor.timeouts import Server, contradictions, needed, per_process, planned
from simulator import Simulator
from tests.running import ROOT, Service, running_service

DEFAULTS = Config.from_env({})
FOLDER = ROOT / "deploy" / "nginx"
# As `nginx -T` prints it.
NGINX = "\n".join(f"# configuration file {path}:\n{path.read_text()}" for path in sorted(FOLDER.glob("*.conf")))
BEHIND_NGINX = Config.from_env({"TRUSTED_PROXIES": "1"})


def checked(text: str, config: Config) -> list[Finding]:
    return nginx.check(nginx.printed(text), config)


def test_the_defaults_do_not_contradict_each_other() -> None:
    for given in ({}, {"STORAGE_URL": "s3://pictures"}, {"SD_TIMEOUT": "86400"}, {"SD_QUEUE_LIMIT": "0"}):
        config = Config.from_env(given)
        assert contradictions(config, planned(config)) == []


@pytest.mark.parametrize(
    ("given", "changed", "expected"),
    [
        ({}, {"graceful_timeout_s": 30}, "running jobs are lost at every stop"),
        ({"SD_TIMEOUT": "600"}, {"graceful_timeout_s": 315}, "a job may take 610 s"),
        ({"STORAGE_URL": "s3://pictures"}, {"graceful_timeout_s": 315}, "a job may take 360 s"),
        ({}, {"threads": 8}, "health checks can come to wait"),
        ({}, {"worker_class": "sync"}, "gunicorn's worker class is sync"),
        ({}, {"keepalive_s": 5}, "a 502 now and then"),
        ({"SENDFILE_HEADER": "X-Accel-Redirect"}, {}, "all callers share one rate limit"),
    ],
)
def test_contradictions(given: dict[str, str], changed: dict[str, Any], expected: str) -> None:
    config = Config.from_env(given)
    server: Server = replace(planned(config), **changed)
    (found,) = contradictions(config, server)
    assert (found.level, expected in found.text) == ("warning", True)


def test_connections_that_are_never_kept_are_no_contradiction() -> None:
    assert contradictions(DEFAULTS, replace(planned(DEFAULTS), keepalive_s=0)) == []


@pytest.mark.parametrize(("given", "workers", "many"), [({}, 2, 1), ({}, 1, 0), ({"REDIS_URL": "redis://r"}, 2, 0)])
def test_limits_per_process(given: dict[str, str], workers: int, many: int) -> None:
    config = Config.from_env(given)
    assert len(per_process(config, replace(planned(config), workers=workers))) == many


def test_what_those_in_front_need() -> None:
    answer, stop = needed(Config.from_env({"SD_TIMEOUT": "100", "SD_QUEUE_TIMEOUT": "20", "MAX_BODY_MB": "8"}))
    assert "proxy_read_timeout 130s; client_max_body_size 8m" in answer.text
    assert "120 s" in stop.text


def test_the_service_as_it_is_has_no_contradictions(service: Service) -> None:
    # All remedies of such are of this form.
    assert "; --" not in service.printed
    assert "; leave it at" not in service.printed
    assert "each of 2 workers counts for itself" in service.printed


def test_it_is_told_at_the_start(simulator: Simulator, tmp_path: Path) -> None:
    arguments = "--graceful-timeout 5 --threads 8"
    with running_service(tmp_path, simulator.url, GUNICORN_CMD_ARGS=arguments) as service:
        service.wait_until_answering()
        output = service.printed
    assert "running jobs are lost at every stop; --graceful-timeout 315" in output
    assert "a worker has 8 threads" in output
    assert "each of 2 workers counts for itself" in output
    assert "worker class" not in output
    assert "a 502 now and then" not in output


def test_the_projects_own_nginx_fits_the_defaults() -> None:
    for given in ({}, {"SENDFILE_HEADER": "X-Accel-Redirect", "IMAGE_DIR": "/var/lib/stable-diffusion-api/images"}):
        config = Config.from_env({"TRUSTED_PROXIES": "1", **given})
        (found,) = checked(NGINX, config)
        assert (found.level, found.text) == ("ok", "its configuration fits the settings")
    # The largest batch that the defaults allow, stored in a bucket.
    assert checked(NGINX, Config.from_env({"TRUSTED_PROXIES": "1", "STORAGE_URL": "s3://p-1"}))[0].level == "ok"


@pytest.mark.parametrize(
    ("there", "here", "level", "expected"),
    [
        ("proxy_read_timeout 500s;", "proxy_read_timeout 7m;", "error", "proxy_read_timeout is 420 s"),
        ("proxy_read_timeout 500s;", "", "error", "proxy_read_timeout is 60 s"),
        ("client_max_body_size 32m;", "client_max_body_size 16384k;", "error", "client_max_body_size is 16 MB"),
        ("client_max_body_size 32m;", "", "error", "client_max_body_size is 1 MB"),
        ("error timeout;", "error timeout non_idempotent;", "error", "painted twice"),
        ("proxy_set_header X-Forwarded-For", "proxy_set_header X-Other", "error", "pretend to be anybody"),
        ("proxy_read_timeout 500s;", "proxy_read_timeout $long;", "warning", "proxy_read_timeout $long cannot be read"),
        ("proxy_read_timeout 500s;", "proxy_read_timeout 500S;", "warning", "proxy_read_timeout 500S cannot be read"),
        ("proxy_read_timeout 500s;", 'proxy_read_timeout "";', "warning", "cannot be read"),
        ("client_max_body_size 32m;", "client_max_body_size ${SIZE}m;", "warning", "${SIZE}m cannot be read"),
        ("client_max_body_size 32m;", "client_max_body_size 32MB;", "warning", "32MB cannot be read"),
    ],
)
def test_an_nginx_that_does_not_fit(there: str, here: str, level: str, expected: str) -> None:
    assert there in NGINX
    (found,) = checked(NGINX.replace(there, here), BEHIND_NGINX)
    assert (found.level, expected in found.text) == (level, True)
    assert found.remedy


@pytest.mark.parametrize(
    "body",
    [
        *("client_max_body_size 0;", "client_max_body_size 1g;", "client_max_body_size 33554432;"),
        *("client_max_body_size 32768K;", 'client_max_body_size "32M";'),
    ],
)
def test_sizes_as_nginx_writes_them(body: str) -> None:
    text = NGINX.replace("client_max_body_size 32m;", body)
    assert checked(text, BEHIND_NGINX)[0].level == "ok"


@pytest.mark.parametrize("time", ["500", "500000ms", "8m20s", '"8m 20s"', "'8m'", "1h", "1d"])
def test_times_as_nginx_writes_them(time: str) -> None:
    text = NGINX.replace("proxy_read_timeout 500s;", f"proxy_read_timeout {time};")
    assert checked(text, BEHIND_NGINX)[0].level == "ok"


def test_files_are_read_with_what_they_include() -> None:
    # Both files are given to find what holds, and one of them is what the other includes.
    for paths in ([FOLDER / "nginx.conf"], sorted(FOLDER.glob("*.conf"))):
        read = [one for path in paths for one in nginx.read(path)]
        assert not [one for one in read if one.name == "include"]
        (found,) = nginx.check(read, BEHIND_NGINX)
        assert found.level == "ok"


def test_an_include_stands_where_it_is_included(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "nginx.conf").write_text("http { include sites/*.conf; include none/*.conf; include mime.types; }")
    (tmp_path / "sites" / "one.conf").write_text("server { include of-one; }")
    (tmp_path / "of-one").write_text(f"client_max_body_size 9m; include {tmp_path}/lost.conf;")
    read = list(nginx.read(tmp_path / "nginx.conf"))
    assert [(one.blocks, one.name) for one in read] == [
        ((), "http"),
        (("http",), "server"),
        (("http", "server"), "client_max_body_size"),
        (("http", "server"), "include"),
        (("http",), "include"),
    ]
    seen = [found.text for found in nginx.check(read, BEHIND_NGINX)]
    assert seen == [f"it includes {tmp_path}/lost.conf, which is not here: its contents are unknown"]


def test_a_file_that_includes_itself_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("http { include sites; }")
    (tmp_path / "sites").write_text("include nginx.conf;")
    with pytest.raises(OSError, match="includes itself"):
        list(nginx.read(tmp_path / "nginx.conf"))


def test_what_a_printed_configuration_includes_is_in_it() -> None:
    assert [
        one.name for one in nginx.printed("# configuration file /a:\ninclude b;\n# configuration file /b:\nc;")
    ] == ["c"]
    assert [one.name for one in nginx.printed("include b;")] == ["include"]


@pytest.mark.parametrize(
    ("changed", "level", "expected"),
    [
        ({"location /_images/": "location ^~ /_images/", "alias /var/lib": "alias /srv"}, "warning", "in /srv"),
        ({"internal;\n            alias": "alias"}, "error", "no internal location /_images/"),
        ({"location /_images/": "location /other/"}, "error", "no internal location /_images/"),
        ({"alias /var/lib/stable-diffusion-api/images/;": "alias /srv/;"}, "warning", "IMAGE_DIR is /var/lib"),
        ({"images/;": "images;"}, "warning", "IMAGE_DIR is /var/lib"),
    ],
)
def test_an_nginx_that_cannot_send_images(changed: dict[str, str], level: str, expected: str) -> None:
    images = {"SENDFILE_HEADER": "X-Accel-Redirect", "IMAGE_DIR": "/var/lib/stable-diffusion-api/images"}
    text = NGINX
    for there, here in changed.items():
        assert there in text
        text = text.replace(there, here)
    (found,) = checked(text, Config.from_env({"TRUSTED_PROXIES": "1", **images}))
    assert (found.level, expected in found.text) == (level, True)


def test_proxies_that_nobody_trusts() -> None:
    (found,) = checked(NGINX, DEFAULTS)
    assert (found.level, "TRUSTED_PROXIES is 0" in found.text) == ("warning", True)


def test_parsing() -> None:
    text = """a 1; # no; }
    http { "b;" 'c}' ${d}; e { f; } } g;"""
    found = [(one.blocks, one.name, one.words) for one in nginx.parse(text)]
    assert found == [
        ((), "a", ("1",)),
        ((), "http", ()),
        (("http",), "b;", ("c}", "${d}")),
        (("http",), "e", ()),
        (("http", "e"), "f", ()),
        ((), "g", ()),
    ]


def test_the_table_of_timeouts_tells_the_defaults() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("## Timeouts, from the caller to the GPU")[2].partition("## ")[0]
    rows = {tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table.splitlines() if line[:1] == "|"}
    of_nginx = {" ".join((one.name, *one.words)) for one in nginx.parse(NGINX)}

    def told(words: str, settled: str) -> bool:
        return any(words in long and settled in by for *_, long, by in rows)

    assert told(f"{DEFAULTS.longest_answer_s:g} s", "theirs")
    assert told(f"{DEFAULTS.graceful_timeout_s} s", "--graceful-timeout")
    assert told(f"{DEFAULTS.graceful_timeout_s + 5} s", "theirs")
    assert told(f"{KEEPALIVE_S} s", "KEEPALIVE_S")
    assert told(f"{DEFAULTS.sd_timeout:g} s", "SD_TIMEOUT")
    assert told(f"{DEFAULTS.sd_queue_timeout:g} s", "SD_QUEUE_TIMEOUT")
    for directive in ("proxy_read_timeout 500s", "proxy_read_timeout 60s", "proxy_connect_timeout 1s"):
        name, _, long = directive.partition(" ")
        assert directive in of_nginx
        assert told(long.replace("s", " s"), name)
