"""The API over TLS: which versions, whose certificates, and how a renewed one is taken up by a server that runs."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dicom_node.api.front.connections import ConnectionLimits
from dicom_node.api.front.patience import Patience
from dicom_node.api.front.tls import ShownCertificate
from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.incoming import ApiSettings
from dicom_node.core.errors import SettingsError
from dicom_node.index.database import Database
from tests.peers.certificates import Certificates, Identity, make_certificates
from tests.peers.process import wait_until
from tests.support.api_client import TOKEN, parts_over, seeded_database


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = seeded_database(tmp_path_factory.mktemp("api"))
    yield database
    database.close()


def installed(identity: Identity, folder: Path) -> dict[str, Path]:
    """Put certificate and key where the node looks for them, as a renewal does: the new file in place of the old."""
    for name, source in (("certificate", identity.certificate), ("private_key", identity.private_key)):
        shutil.copy(source, folder / f".{name}")
        (folder / f".{name}").chmod(0o600)
        (folder / f".{name}").rename(folder / name)
    return {name: folder / name for name in ("certificate", "private_key")}


@contextmanager
def serving(shown: ShownCertificate, database: Database, folder: Path, patience: Patience) -> Iterator[ApiServer]:
    app = create_app(parts_over(database, folder))
    server = ApiServer(app, "127.0.0.1", 0, ConnectionLimits(patience=patience, tls=shown.context))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(server: ApiServer, context: ssl.SSLContext, path: str = "/healthz") -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"https://127.0.0.1:{server.port}", verify=context, trust_env=False, timeout=60) as one:
        return one.get(path, headers=headers)


def certificate_at(server: ApiServer, context: ssl.SSLContext) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 60) as line, context.wrap_socket(line) as secured:
        return secured.getpeercert(binary_form=True) or b""


def der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.certificate.read_text(encoding="ascii"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")  # the old version is what is tried
def test_it_speaks_tls_from_1_2_on_and_nothing_else(
    certificates: Certificates, database: Database, tmp_path: Path
) -> None:
    shown = ShownCertificate(ApiSettings(**installed(certificates.server, tmp_path)))
    with serving(shown, database, tmp_path, Patience()) as server:
        answer = ask(server, certificates.client(None), "/api/status")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with httpx.Client(verify=certificates.client(None), trust_env=False) as client:
            signed_in = client.post(f"https://127.0.0.1:{server.port}/login", json={"token": TOKEN})
        assert "; Secure" in signed_in.headers["set-cookie"]
        old = certificates.client(None)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(httpx.TransportError):
            ask(server, old)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{server.port}/healthz", trust_env=False)


def test_silent_clients_hold_up_nobody_and_are_not_awaited(
    certificates: Certificates, database: Database, tmp_path: Path
) -> None:
    shown = ShownCertificate(ApiSettings(**installed(certificates.server, tmp_path)))
    with serving(shown, database, tmp_path, Patience(handshake_s=300)) as server, ExitStack() as stack:
        for number in range(300):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
            line.sendall(b"\x16\x03\x01\x02" if number % 2 else b"")
        assert ask(server, certificates.client(None)).status_code == 200
    with (
        serving(shown, database, tmp_path, Patience(handshake_s=0.5)) as server,
        socket.create_connection(("127.0.0.1", server.port), 60) as line,
    ):
        assert line.recv(1) == b""


def test_a_large_answer_and_a_refused_body_come_through(
    certificates: Certificates, database: Database, tmp_path: Path
) -> None:
    shown = ShownCertificate(ApiSettings(**installed(certificates.server, tmp_path)))
    with serving(shown, database, tmp_path, Patience(last_word_s=60)) as server:
        assert len(ask(server, certificates.client(None), "/api/openapi.json").json()["paths"]) > 20
        with (
            socket.create_connection(("127.0.0.1", server.port), 60) as line,
            certificates.client(None).wrap_socket(line) as secured,
        ):
            secured.sendall(b"POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: 1048576\r\n\r\n" + bytes(1 << 20))
            assert secured.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_who_must_show_a_certificate_is_let_in_with_one_only(
    certificates: Certificates, database: Database, tmp_path: Path
) -> None:
    files = installed(certificates.server, tmp_path)
    shown = ShownCertificate(ApiSettings(**files, ca=certificates.ca, client_certificate="required"))
    with serving(shown, database, tmp_path, Patience()) as server:
        assert ask(server, certificates.client(certificates.modality)).status_code == 200
        for other in (None, certificates.rogue):
            with pytest.raises(httpx.TransportError):
                ask(server, certificates.client(other))


def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    certificates: Certificates, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = installed(certificates.server, tmp_path)
    shown = ShownCertificate(ApiSettings(**files))
    client = certificates.client(None)
    with serving(shown, database, tmp_path, Patience()) as server:
        assert certificate_at(server, client) == der(certificates.server)
        shutil.copy(certificates.modality.certificate, files["certificate"])  # its key has not come yet
        wait_until(lambda: bool(shown.state().problem), 60, "the new file to be seen", 0.1)
        assert "key values mismatch" in shown.state().problem
        assert certificate_at(server, client) == der(certificates.server)
        assert "the one before is" in caplog.text
        installed(certificates.modality, tmp_path)
        wait_until(lambda: not shown.state().problem, 60, "the whole pair to be seen", 0.1)
        assert certificate_at(server, client) == der(certificates.modality)


def made(folder: Path, days: float, password: bytes | None = None) -> dict[str, Path]:
    """Write a certificate that ends in so many days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=99)).not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    lock: Any = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    (folder / "certificate").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "private_key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    )
    (folder / "private_key").chmod(0o600)
    return {one: folder / one for one in ("certificate", "private_key")}


def turned_into_a_pipe(path: Path) -> None:
    """What nobody writes into keeps its reader for ever."""
    path.unlink()
    os.mkfifo(path, 0o600)


BROKEN = {
    "gone": lambda folder: (folder / "certificate").unlink(),
    "cut short": lambda folder: (folder / "certificate").write_bytes((folder / "certificate").read_bytes()[:99]),
    "no PEM": lambda folder: (folder / "private_key").write_text("no key"),
    "open to everybody": lambda folder: (folder / "private_key").chmod(0o644),
    "of another key": lambda folder: made(folder, 90) and (folder / "certificate").write_bytes(OTHER[0]),
    "with a pass phrase": lambda folder: made(folder, 90, b"secret"),
    "a named pipe": lambda folder: turned_into_a_pipe(folder / "certificate"),
    "a key that is a named pipe": lambda folder: turned_into_a_pipe(folder / "private_key"),
    "ended": lambda folder: made(folder, -1),
}
OTHER: list[bytes] = []


@pytest.mark.parametrize("fault", BROKEN)
def test_files_that_cannot_be_used_are_told_and_change_nothing(fault: str, tmp_path: Path) -> None:
    clock = [0.0]
    files = made(tmp_path, 90)
    OTHER[:] = [files["certificate"].read_bytes()]
    shown = ShownCertificate(ApiSettings(**files), lambda: clock[0])
    context, until = shown.context(), shown.state().valid_until
    BROKEN[fault](tmp_path)
    clock[0] += 2

    assert shown.state().problem.startswith("The new files cannot be used: ")
    assert (shown.context(), shown.state().valid_until) == (context, until)
    if fault not in {"ended", "open to everybody"} and "pipe" not in fault:  # the settings refuse that by themselves
        with pytest.raises(SettingsError, match=r"api\.certificate"):
            ShownCertificate(ApiSettings(**files))
    for file in files.values():
        file.unlink(missing_ok=True)  # of a pipe nothing but the name is replaced
    made(tmp_path, 91)
    clock[0] += 2
    assert shown.state().problem == ""
    assert shown.context() is not context


def test_a_near_end_is_told_once_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    shown = ShownCertificate(ApiSettings(**made(tmp_path, 10)), lambda: clock[0])
    for hours in (1, 2, 25):
        clock[0] = hours * 3600.0
        shown.look()

    assert [record.days_left for record in caplog.records if "must be renewed" in record.message] == [9, 9]  # type: ignore[attr-defined]
