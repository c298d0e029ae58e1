"""Associations that the node opens over TLS, with DCMTK's `storescp` at the other end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.core.errors import DeliveryDeferred
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.outputs.capability_match import WantedOutputs
from dicom_node.deliver.checks import check_dicom
from dicom_node.deliver.senders.dicom import DicomSender
from dicom_node.dimse.negotiation import ANY_NAME, Remote, Tls
from dicom_node.dimse.probe import echo
from tests.integration.sent_objects import SOP_CLASSES, outgoing
from tests.peers.certificates import Certificates, Identity, make_certificates
from tests.peers.dcmtk import Receiver, running_storescp
from tests.peers.process import free_port

#: Longer than a busy machine stands still.
PATIENCE_S = 60


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def pacs_over_tls(folder: Path, certificates: Certificates, own: Identity) -> Iterator[Receiver]:
    """A PACS that shows its certificate and wants to see one of the same authority."""
    shown = ("+tls", str(own.private_key), str(own.certificate), "+cf", str(certificates.ca))
    with running_storescp(folder, *shown) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Receiver]:
    with pacs_over_tls(tmp_path_factory.mktemp("pacs"), certificates, certificates.server) as receiver:
        yield receiver


def remote(pacs: Receiver, certificates: Certificates, shown: Identity | None, name: str = "localhost") -> Remote:
    own = (shown.certificate, shown.private_key) if shown else (None, None)
    return Remote("127.0.0.1", pacs.port, pacs.aet, "AINODE", PATIENCE_S, Tls(name, certificates.ca, *own))


def why_not(at: Remote) -> str:
    with pytest.raises(DeliveryDeferred) as raised:
        echo(at)
    return str(raised.value)


def test_every_kind_of_result_arrives_over_tls(pacs: Receiver, certificates: Certificates, tmp_path: Path) -> None:
    items = [outgoing(tmp_path, kind.lower(), kind) for kind in SOP_CLASSES]
    sent = list(DicomSender(remote(pacs, certificates, certificates.modality)).send(items))
    assert [one.error for one in sent] == [None] * len(items)
    assert {item.artifact.uid for item in items} <= {str(found.SOPInstanceUID) for found in pacs.datasets()}


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", ANY_NAME])
def test_the_name_in_the_certificate_is_that_of_the_host_or_the_one_in_the_settings(
    pacs: Receiver, certificates: Certificates, name: str
) -> None:
    assert echo(remote(pacs, certificates, certificates.modality, name)) < PATIENCE_S


def test_a_certificate_with_another_name_is_refused(pacs: Receiver, certificates: Certificates) -> None:
    said = why_not(remote(pacs, certificates, certificates.modality, "pacs.hospital"))
    assert "shows a certificate that does not hold" in said
    assert "tls_server_name" in said


def test_a_pacs_whose_authority_nobody_knows_gets_nothing(certificates: Certificates, tmp_path: Path) -> None:
    with pacs_over_tls(tmp_path, certificates, certificates.rogue) as rogue:
        for name in ("localhost", ANY_NAME):
            said = why_not(remote(rogue, certificates, certificates.modality, name))
            assert "shows a certificate that does not hold" in said
        assert "A-ASSOCIATE" not in rogue.process.tail()


@pytest.mark.parametrize("shown", ["nothing", "rogue"])
def test_a_pacs_that_does_not_accept_the_nodes_certificate_is_told_from_one_that_is_away(
    pacs: Receiver, certificates: Certificates, shown: str
) -> None:
    said = why_not(remote(pacs, certificates, certificates.rogue if shown == "rogue" else None))
    assert "certificate of this node" in said


def test_a_plain_peer_where_tls_is_expected_is_told(certificates: Certificates, tmp_path: Path) -> None:
    with running_storescp(tmp_path) as plain:
        assert "does not agree on TLS here" in why_not(remote(plain, certificates, None))


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("no TLS", "whether it wants TLS there"),
        ("another authority", "Check who signed it (tls_ca"),
        ("another name", "the name that it bears (tls_server_name"),
        ("nothing shown", "Does it know the certificate of this node?"),
    ],
)
def test_the_doctor_names_what_cures_a_fault_and_nothing_else(
    pacs: Receiver, certificates: Certificates, fault: str, advice: str
) -> None:
    well = remote(pacs, certificates, certificates.modality)
    assert well.tls is not None
    faulty = {
        "no TLS": replace(well, tls=None),
        "another authority": replace(well, tls=replace(well.tls, ca=certificates.rogue.certificate)),
        "another name": replace(well, tls=replace(well.tls, server_name="pacs.hospital")),
        "nothing shown": remote(pacs, certificates, None),
    }
    answer = check_dicom(faulty[fault], WantedOutputs(outputs=OutputSet()))
    assert not answer.ok
    assert advice in answer.advice
    assert "ae_title" not in answer.advice
    assert advice not in answer.text
    assert check_dicom(well, WantedOutputs(outputs=OutputSet())).ok


def test_a_file_that_is_not_there_is_named_as_the_nodes_own_fault(pacs: Receiver, certificates: Certificates) -> None:
    broken = remote(pacs, certificates, Identity(Path("none.pem"), Path("none.key")))
    assert "[dicom_tls] of this node" in why_not(broken)


def test_a_port_that_nobody_listens_on_is_told_as_without_tls(pacs: Receiver, certificates: Certificates) -> None:
    away = replace(remote(pacs, certificates, certificates.modality), port=free_port())
    assert "cannot be reached" in why_not(away)


def test_a_renewed_certificate_is_used_without_a_restart(
    pacs: Receiver, certificates: Certificates, tmp_path: Path
) -> None:
    own = Identity(tmp_path / "own.pem", tmp_path / "own.key")
    for made, works in ((certificates.rogue, False), (certificates.other_modality, True)):
        own.certificate.write_bytes(made.certificate.read_bytes())
        own.private_key.write_bytes(made.private_key.read_bytes())
        at = remote(pacs, certificates, own)
        assert echo(at) < PATIENCE_S if works else why_not(at)
