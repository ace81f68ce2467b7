"""An authority, and one certificate of it for 127.0.0.1, good for servers as well as for those who call them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.running import DEADLINE_S

# As strict as CPython 3.13 and newer look at them.
_OPENSSL = """
[req]
distinguished_name = name
prompt = no
[name]
CN = tests
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[bearer]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, kw_only=True)
class Certificates:
    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    folder.mkdir()
    (folder / "openssl.cnf").write_text(_OPENSSL)
    for name, signed_by in (("authority", ()), ("bearer", ("-CA", "authority.pem", "-CAkey", "authority.key"))):
        command = ["openssl", "req", "-x509", "-config", "openssl.cnf", "-extensions", name, *signed_by]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=DEADLINE_S)
    return Certificates(
        authority=folder / "authority.pem", certificate=folder / "bearer.pem", key=folder / "bearer.key"
    )
