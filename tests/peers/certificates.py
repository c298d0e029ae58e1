"""Certificates for tests, made by openssl: an authority, a server, modalities, and a rogue with another authority."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import tool

_DAYS = "30"


@dataclass(frozen=True)
class Identity:
    """A certificate (PEM) and its private key."""

    certificate: Path
    private_key: Path

    @property
    def sha256(self) -> str:
        """The digest of the certificate in DER, in hexadecimal."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.certificate.read_text(encoding="ascii"))).hexdigest()


@dataclass(frozen=True)
class Certificates:
    """Everything a TLS test needs; `rogue` is signed by an authority that nobody knows."""

    ca: Path
    server: Identity
    modality: Identity
    other_modality: Identity
    rogue: Identity

    def client(self, identity: Identity | None) -> ssl.SSLContext:
        """Return the context of a client that trusts `ca` and shows `identity`, if any."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        if identity is not None:
            context.load_cert_chain(identity.certificate, identity.private_key)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Make them below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, rogue_ca = _authority(folder, "ca"), _authority(folder, "rogue-ca")
    return Certificates(
        ca=ca.certificate,
        server=_signed(folder, "server", ca),
        modality=_signed(folder, "modality", ca),
        other_modality=_signed(folder, "other-modality", ca),
        rogue=_signed(folder, "rogue", rogue_ca),
    )


def _authority(folder: Path, name: str) -> Identity:
    made = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        "req", "-x509", *_new_key(made.private_key), "-out", str(made.certificate), "-days", _DAYS,
        "-subj", f"/CN=Test {name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    return made


def _signed(folder: Path, name: str, by: Identity) -> Identity:
    made = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="ascii")
    _openssl("req", *_new_key(made.private_key), "-out", str(request), "-subj", f"/CN={name}")
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(by.certificate), "-CAkey", str(by.private_key),
        "-CAcreateserial", "-days", _DAYS, "-extfile", str(extensions), "-out", str(made.certificate),
    )  # fmt: skip
    return made


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "rsa:2048", "-nodes", "-keyout", str(path)]


def _openssl(*arguments: str) -> None:
    subprocess.run([tool("openssl", "openssl"), *arguments], check=True, capture_output=True, timeout=60)
