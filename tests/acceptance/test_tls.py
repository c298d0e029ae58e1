"""DICOM over TLS: who shows the right certificate comes in, nobody else does, and who stalls holds up nobody."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import raw
from tests.peers.certificates import Certificates, Identity, make_certificates
from tests.peers.dcmtk import echoscu, run
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import Raw
from tests.support.acceptor_state import back_at, logged_errors, quiet, use_of
from tests.support.results.stored_objects import assert_kept
from tests.support.studies.small_images import small_image

pytestmark = pytest.mark.timeout(600)

#: The deadline of the node that is impatient; the other one waits for 10 s, as it comes.
HANDSHAKE_S = 2.0
#: What a busy machine may add to a deadline.
LEEWAY_S = 25.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def tls_settings(certificates: Certificates, **more: Any) -> dict[str, Any]:
    own = certificates.server
    found = {"certificate": str(own.certificate), "private_key": str(own.private_key), "ca": str(certificates.ca)}
    return {"port": 0, **found, **more}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Node]:
    """A node that serves plain peers and, with a certificate, TLS peers."""
    node = Node(tmp_path_factory.mktemp("tls"), {"route": [], "dicom_tls": tls_settings(certificates)})
    node.start()
    yield node
    node.kill9()
    assert logged_errors(node) == []


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Node]:
    """A node with short deadlines, for peers that stall or drip."""
    settings = {
        "route": [],
        "dicom": {"pdu_timeout_s": 2.0, "network_timeout_s": 3.0},
        "dicom_tls": tls_settings(certificates, handshake_timeout_s=HANDSHAKE_S),
    }
    node = Node(tmp_path_factory.mktemp("impatient"), settings)
    node.start()
    yield node
    node.kill9()
    assert logged_errors(node) == []


def tls_port(node: Node) -> int:
    return int(json.loads((node.data_dir / "ports.json").read_text(encoding="utf-8"))["dicom_tls"])


def storescu(node: Node, certificates: Certificates, *options: str, path: Path) -> tuple[int, str]:
    """Send a file with DCMTK over TLS; `options` say how it proves itself."""
    done = run(
        "storescu", "-v", "-aet", "MOD1", "-aec", "AINODE", *options, "+cf", str(certificates.ca),
        "localhost", str(tls_port(node)), str(path),
    )  # fmt: skip
    return done.returncode, done.stdout


def shown(identity: Identity) -> tuple[str, str, str]:
    return "+tls", str(identity.private_key), str(identity.certificate)


def test_a_modality_with_a_certificate_stores_without_a_warning(
    secure: Node, certificates: Certificates, tmp_path: Path
) -> None:
    image = small_image("over-tls")
    status, said = storescu(secure, certificates, *shown(certificates.modality), path=image.save(tmp_path))
    assert status == 0, said
    assert not [line for line in said.splitlines() if line.startswith(("W:", "E:", "F:"))], said
    assert_kept(secure, [image])
    ended = secure.wait_for_event(lambda event: event["event"] == "association ended")
    assert ended["outcome"] == "released"


def test_large_objects_come_whole_over_tls(secure: Node, certificates: Certificates) -> None:
    image = small_image("large-over-tls", rows=1500)
    with Raw(tls_port(secure), tls=certificates.client(certificates.modality)).opened() as peer:
        assert peer.store(image, pdu_bytes=131072) == 0
        assert peer.store(small_image("and-a-small-one")) == 0
        peer.release()
    assert_kept(secure, [image])


@pytest.mark.parametrize("who", ["anonymous", "rogue"])
def test_a_peer_without_the_right_certificate_is_refused(
    secure: Node, certificates: Certificates, tmp_path: Path, who: str
) -> None:
    options = ("+tla",) if who == "anonymous" else shown(certificates.rogue)
    status, said = storescu(secure, certificates, *options, path=small_image(f"by-{who}").save(tmp_path))
    assert status != 0, said
    line = secure.wait_for_event(lambda event: event["event"] == "connection ended before it began")
    assert line["host"] == "127.0.0.1"


def test_a_plain_peer_on_the_tls_port_is_refused(secure: Node) -> None:
    with Raw(tls_port(secure)) as peer:
        peer.send(raw.associate_rq())
        assert peer.end(10.0 + LEEWAY_S) != "open"
    assert echoscu(tls_port(secure)).returncode != 0


def test_a_tls_peer_on_the_plain_port_is_refused(secure: Node, certificates: Certificates) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Raw(secure.dicom_port, tls=certificates.client(certificates.modality))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")  # that it is old is the point
def test_old_versions_of_tls_are_refused(secure: Node, certificates: Certificates, version: ssl.TLSVersion) -> None:
    """Asked for by hand: a library of today would not even ask."""
    hello = ssl.create_default_context(cafile=str(certificates.ca))
    hello.check_hostname = False
    hello.set_ciphers("ALL:@SECLEVEL=0")
    hello.minimum_version = hello.maximum_version = version
    hello.load_cert_chain(certificates.modality.certificate, certificates.modality.private_key)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Raw(tls_port(secure), tls=hello)


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"])
def test_ciphers_without_forward_secrecy_or_authenticated_encryption_are_refused(
    secure: Node, certificates: Certificates, cipher: str
) -> None:
    hello = certificates.client(certificates.modality)
    hello.maximum_version = ssl.TLSVersion.TLSv1_2
    hello.set_ciphers(cipher)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Raw(tls_port(secure), tls=hello)


def test_a_stalled_handshake_keeps_no_other_peer_waiting(
    impatient: Node, certificates: Certificates, machine_stall_s: Callable[[], float]
) -> None:
    before = quiet(impatient)
    stalled = [socket.create_connection(("127.0.0.1", tls_port(impatient))) for _ in range(20)]
    for connection in stalled[::2]:
        connection.sendall(bytes.fromhex("16030100c8"))  # the start of a ClientHello
    began = time.monotonic()
    with Raw(tls_port(impatient), tls=certificates.client(certificates.modality)).opened() as peer:
        assert peer.echo() == 0
        assert time.monotonic() - began < 1.0 + machine_stall_s()
        peer.release()
    for connection in stalled:
        connection.settimeout(HANDSHAKE_S + LEEWAY_S)
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                pass
        connection.close()
    assert time.monotonic() - began < HANDSHAKE_S + LEEWAY_S
    back_at(impatient, before)


def test_a_handshake_that_drips_is_cut_off_at_its_deadline(impatient: Node) -> None:
    with socket.create_connection(("127.0.0.1", tls_port(impatient))) as connection:
        began = time.monotonic()
        connection.sendall(bytes.fromhex("16030140000100"))
        connection.settimeout(0.1)
        ended = False
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 60 and not ended:
                connection.sendall(b"\0")
                with contextlib.suppress(TimeoutError):
                    ended = connection.recv(4096) == b""
        assert time.monotonic() - began < HANDSHAKE_S + LEEWAY_S


def test_five_hundred_silent_peers_on_the_tls_port_keep_nobody_out(
    node: Callable[..., Node], certificates: Certificates, machine_stall_s: Callable[[], float]
) -> None:
    one = node(route=[], dicom_tls=tls_settings(certificates, handshake_timeout_s=40))
    before = quiet(one)
    crowd = [socket.create_connection(("127.0.0.1", tls_port(one))) for _ in range(500)]
    try:
        began = time.monotonic()
        with Raw(tls_port(one), tls=certificates.client(certificates.modality)).opened() as peer:
            assert peer.echo() == 0
            peer.release()
        assert time.monotonic() - began < 20 + machine_stall_s(), "it waited for the deadline of others"
        assert echoscu(one.dicom_port).returncode == 0
        # Threads whose connections were just cut may take a moment to end.
        wait_until(lambda: use_of(one).threads - before.threads <= 200, 60, "the end of threads beyond the limit")
        wait_until(lambda: use_of(one).descriptors - before.descriptors <= 250, 60, "the end of their connections")
    finally:
        for connection in crowd:
            connection.close()
    back_at(one, before)


@pytest.mark.parametrize("how", ["stall", "drip"])
def test_deadlines_hold_over_tls_too(impatient: Node, certificates: Certificates, how: str) -> None:
    image = small_image("slow-over-tls", rows=128)
    command = raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid)
    first, *_ = raw.data_pdus(image.data_set)
    with Raw(tls_port(impatient), tls=certificates.client(certificates.modality)).opened() as peer:
        peer.send(raw.p_data(raw.STORE_CONTEXT, raw.COMMAND | raw.LAST, command) + first[:500])
        began, ended = time.monotonic(), False
        if how == "drip":
            peer.socket.settimeout(0.1)
            with contextlib.suppress(OSError):
                while time.monotonic() - began < 60 and not ended:
                    peer.send(b"\0")
                    with contextlib.suppress(TimeoutError):
                        ended = bool(peer.socket.recv(4096))
        else:
            assert peer.end(2.0 + LEEWAY_S) == "abort"
        assert time.monotonic() - began < 2.0 + LEEWAY_S


def test_certificates_may_be_optional_and_a_peer_may_be_bound_to_its_own(
    node: Callable[..., Node], certificates: Certificates
) -> None:
    """Two scanners share an authority; each title is bound to one certificate, and a third one needs TLS at all."""
    peers = [
        {"ae_title": "CT1", "certificate_sha256": certificates.modality.sha256},
        {"ae_title": "CT2", "certificate_sha256": certificates.other_modality.sha256},
        {"ae_title": "SECURE", "tls": True},
        {"ae_title": "PLAIN"},
    ]
    one = node(route=[], dicom_tls=tls_settings(certificates, client_certificate="optional"), peer=peers)

    def comes_in(calling: str, identity: Identity | None, *, tls: bool = True) -> bool:
        context = certificates.client(identity) if tls else None
        with Raw(tls_port(one) if tls else one.dicom_port, tls=context) as peer:
            answer = peer.associate(calling=calling)
            if answer.kind == raw.ASSOCIATE_RJ:
                assert tuple(answer.body[1:4]) == (1, 1, 3)
                return False
            return peer.echo() == 0

    assert comes_in("CT1", certificates.modality)
    assert comes_in("CT2", certificates.other_modality)
    assert not comes_in("CT1", certificates.other_modality)
    assert not comes_in("CT1", None)
    assert not comes_in("CT1", None, tls=False)
    assert comes_in("SECURE", None)
    assert not comes_in("SECURE", None, tls=False)
    assert comes_in("PLAIN", None)
    assert comes_in("PLAIN", None, tls=False)
    assert logged_errors(one) == []


def test_a_node_without_a_plain_port_serves_tls_only(node: Callable[..., Node], certificates: Certificates) -> None:
    one = node(start=False, route=[], dicom={"plain": False}, dicom_tls=tls_settings(certificates))
    one.start()
    assert json.loads((one.data_dir / "ports.json").read_text(encoding="utf-8")).get("dicom") is None
    with Raw(tls_port(one), tls=certificates.client(certificates.modality)).opened() as peer:
        assert peer.echo() == 0


def test_a_certificate_that_cannot_be_used_stops_the_start_with_a_reason(
    node: Callable[..., Node], certificates: Certificates
) -> None:
    wrong = tls_settings(certificates) | {"private_key": str(certificates.rogue.private_key)}
    one = node(start=False, route=[], dicom_tls=wrong)
    with pytest.raises(RuntimeError, match="dicom_tls"):
        one.start()
