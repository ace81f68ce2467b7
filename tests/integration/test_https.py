"""WebUIs behind https: a private authority, a certificate that signs itself, and one that nobody knows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import Config, ConfigError
from doctor import webuis
from simulator import Simulator
from tests.conftest import MakeApp
from tests.hosts.certificates import Certificates, make_certificates
from tests.running import DEADLINE_S, PREFIX, wait_until

BODY = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "made")


@pytest.fixture(scope="module")
def self_signed(certificates: Certificates) -> Path:
    """As one makes it by hand: certificate and key in one file, signed by itself."""
    folder = certificates.authority.parent
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=webui"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "self.key", "-out", "self.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=DEADLINE_S)
    both = folder / "self-both.pem"
    both.write_text((folder / "self.pem").read_text() + (folder / "self.key").read_text())
    return both


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> Iterator[Simulator]:
    both = certificates.authority.parent / "both.pem"
    both.write_text(certificates.certificate.read_text() + certificates.key.read_text())
    with Simulator(certificate=str(both)) as webui:
        yield webui


@pytest.mark.parametrize("variable", ["SD_WEBUI_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_of_ones_own(
    make_app: MakeApp, secured: Simulator, certificates: Certificates, variable: str
) -> None:
    client = make_app(secured.url, **{variable: str(certificates.authority)}).test_client()
    assert client.post(f"{PREFIX}/txt2img", json=BODY).status_code == 200


def test_a_certificate_that_signs_itself(make_app: MakeApp, self_signed: Path) -> None:
    with Simulator(certificate=str(self_signed)) as webui:
        client = make_app(webui.url, SD_WEBUI_CA_BUNDLE=str(self_signed.parent / "self.pem")).test_client()
        assert client.post(f"{PREFIX}/txt2img", json=BODY).status_code == 200


def test_a_certificate_that_nobody_knows_is_told(
    make_app: MakeApp, secured: Simulator, capfd: pytest.CaptureFixture[str]
) -> None:
    make_app(secured.url, LOG_LEVEL="WARNING")
    log = ""

    def told() -> bool:
        nonlocal log
        log += capfd.readouterr().out
        return "webui unavailable" in log

    wait_until(told, "the reason is in the log")
    assert "webui unavailable: no connection to the WebUI (certificate not trusted)" in log
    assert "127.0.0.1" not in log
    found, _ = webuis.check(Config.from_env({"SD_WEBUI_URL": secured.url}))
    assert "has a certificate that is not trusted" in found.text
    assert "SD_WEBUI_CA_BUNDLE" in found.remedy


def test_the_doctor_trusts_the_same(secured: Simulator, certificates: Certificates) -> None:
    found = webuis.check(
        Config.from_env({"SD_WEBUI_URL": secured.url, "SD_WEBUI_CA_BUNDLE": str(certificates.authority)})
    )
    assert {finding.level for finding in found} == {"ok"}


def test_a_bundle_is_looked_at_before_anything_starts(tmp_path: Path) -> None:
    missing = str(tmp_path / "gone.pem")
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        with pytest.raises(ConfigError, match=rf"{variable}: cannot be used \(No such file or directory\)"):
            Config.from_env({"SD_WEBUI_URL": "https://gpu:7860", variable: missing})
        assert Config.from_env({"SD_WEBUI_URL": "http://gpu:7860", variable: missing}).sd_webui_ca_bundle is None
    own = {"SD_WEBUI_URL": "https://gpu", "SSL_CERT_FILE": missing}
    with pytest.raises(ConfigError, match=r"SD_WEBUI_CA_BUNDLE: cannot be used"):
        Config.from_env({**own, "SD_WEBUI_CA_BUNDLE": missing})
