"""Messages over MLLP to receivers that obey, and to those that do anything else."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hl7
import pytest

from dicom_node.core.entities import Artifact, ArtifactKind, MediaType
from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryRefused, DestinationAway
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.checks import check_hl7, reach_hl7
from dicom_node.deliver.connections.mllp import MllpPeer
from dicom_node.deliver.outgoing import Outgoing, Sent
from dicom_node.deliver.senders.hl7 import Hl7Sender, judged
from dicom_node.dimse.negotiation import Tls
from dicom_node.fhir.hl7.message import build_message, control_id
from dicom_node.fhir.hl7.receiver import Receiver
from tests.peers.certificates import Certificates, Identity, make_certificates
from tests.peers.mllp import Hl7Receiver, running_hl7apy, running_receiver
from tests.peers.process import free_port
from tests.support.results.fhir_examples import CONTEXT, OPTIONS, analysis, radiograph

#: Longer than a busy machine stands still; and what a test waits for that is about silence.
PATIENT_S, SHORT_S = 60.0, 0.5


def item(folder: Path, name: str = "a", **changes: Any) -> Outgoing:
    uid = derived_uid("test-message", name)
    path = folder / f"{name}.hl7"
    answer = analysis(sources=(radiograph(**changes),))
    path.write_bytes(build_message(answer, CONTEXT, (), OPTIONS, uid).encode())
    about = Artifact(
        uid=uid,
        kind=ArtifactKind.HL7_MESSAGE,
        media_type=MediaType.HL7,
        object_key="",
        sha256="",
        size_bytes=1,
        order=1,
    )
    return Outgoing(about, path)


def sent(port: int, items: Sequence[Outgoing], timeout_s: float = PATIENT_S, **changes: Any) -> list[Sent]:
    sender = Hl7Sender(MllpPeer("127.0.0.1", port, timeout_s), Receiver())
    return list(replace(sender, **changes).send(items))


def test_a_listener_of_another_make_takes_every_message(tmp_path: Path) -> None:
    items = [item(tmp_path, name, PatientName="山田^太郎|x") for name in "abc"]
    with running_hl7apy() as (port, taken):
        told = sent(port, items)
    assert [one.error for one in told] == [None] * 3
    assert told[0].note == f"accepted (AA) as {control_id(items[0].artifact.uid)}"
    assert [hl7.parse(one).segment("MSH")[10] for one in taken] == [[control_id(one.artifact.uid)] for one in items]


def test_one_connection_serves_a_batch_and_the_bytes_are_those_that_were_kept(tmp_path: Path) -> None:
    items = [item(tmp_path, name) for name in "abc"]
    with running_receiver("AA", "CA") as receiver:
        assert [one.error for one in sent(receiver.port, items)] == [None] * 3
    assert receiver.connections == 1
    assert [one.encode() for one in receiver.received] == [one.path.read_bytes() for one in items]


def test_a_receiver_that_closes_behind_each_answer_is_called_again(tmp_path: Path) -> None:
    with running_receiver("close", "close", "close") as receiver:
        assert [one.error for one in sent(receiver.port, [item(tmp_path, name) for name in "abc"])] == [None] * 3


@pytest.mark.parametrize(
    ("behaviour", "error", "says"),
    [
        ("AE", DeliveryDeferred, "answered AE (error 207)"),
        ("CE", DeliveryDeferred, "answered CE"),
        ("AR", DeliveryRefused, "answered AR (error 207)"),
        ("CR", DeliveryRefused, "answered CR"),
        ("AB", DeliveryDeferred, "no code of table 0008"),
        ("drop", DeliveryDeferred, "closed the connection"),
        ("silence", DeliveryDeferred, "did not answer within"),
        ("garbage", DeliveryDeferred, "no MLLP"),
        ("nonsense", DeliveryDeferred, "no acknowledgement"),
        ("another", DeliveryDeferred, "answered for another message"),
        ("endless", DeliveryDeferred, "more than 65536 bytes"),
    ],
)
def test_what_a_receiver_does_decides_what_becomes_of_the_message_and_the_next_one_goes(
    behaviour: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    items = [item(tmp_path, name) for name in "ab"]
    with running_receiver(behaviour) as receiver:
        first, second = sent(receiver.port, items, SHORT_S if behaviour == "silence" else PATIENT_S)
        assert type(first.error) is error
        assert says in str(first.error)
        assert "Jane" not in str(first.error)
        assert second.error is None or behaviour == "silence"
        assert sent(receiver.port, items[:1])[0].error is None
    again = [one for one in receiver.received if control_id(items[0].artifact.uid) in one]
    assert again == [items[0].path.read_bytes().decode()] * 2


@pytest.mark.parametrize(
    "behaviour", [["lines"] * 3, ["bytes"] * 3, ["twice"] * 3, ["AA", "late", "late"], ["silence", "late", "AA"]]
)
def test_who_accepts_in_another_way_is_understood_and_no_message_is_sent_again(
    behaviour: list[str], tmp_path: Path
) -> None:
    items = [item(tmp_path, name) for name in "abc"]
    with running_receiver(*behaviour) as receiver:
        told = sent(receiver.port, items, SHORT_S if "silence" in behaviour else PATIENT_S)
    lost = behaviour.count("silence")
    assert [one.error is None for one in told] == [False] * lost + [True] * (3 - lost)
    assert receiver.received == [one.path.read_bytes().decode() for one in items]


def test_a_message_that_went_out_counts_as_tried_though_nobody_is_there_any_more(tmp_path: Path) -> None:
    """Whoever counts it as not tried would not take it back where the result is withdrawn now."""
    items = [item(tmp_path, name) for name in "ab"]

    class LeavesForGood(Hl7Receiver):
        def process_request(self, request: Any, client_address: Any) -> None:
            self.socket.close()
            super().process_request(request, client_address)

    with running_receiver("AA", "drop", kind=LeavesForGood) as receiver:
        first, second = sent(receiver.port, items)
    assert first.error is None
    assert type(second.error) is DeliveryDeferred
    assert len(receiver.received) == 2


@pytest.mark.parametrize("said", ["MSA|AA|1\rMSA|AR|1", "MSA|AR|1\nMSA|AA|1", "MSA|AA|0\rMSA|AR|1"])
def test_an_answer_that_contradicts_itself_is_no_acceptance(said: str) -> None:
    with pytest.raises(DeliveryRefused):
        judged(f"MSH|^~\\&|\r{said}\r".encode(), "1", MllpPeer("ris", 1, 1.0))


def test_errors_alone_are_bounded() -> None:
    peer = MllpPeer("ris", 1, 1.0)
    limits = []
    for code, asked in (("AE", "1"), ("AE", "2")):
        with pytest.raises(DeliveryDeferred) as raised:
            judged(f"MSH|^~\\&|\rMSA|{code}|1\r".encode(), asked, peer)
        limits.append(raised.value.most_attempts)
    assert limits == [5, None]


def test_nobody_there_holds_back_the_rest(tmp_path: Path) -> None:
    told = sent(free_port(), [item(tmp_path, name) for name in "ab"])
    assert [type(one.error) for one in told] == [DestinationAway] * 2


@pytest.mark.parametrize(
    ("changes", "needs_authority", "why"),
    [
        ({"PatientID": None}, False, "no PatientID"),
        ({"IssuerOfPatientID": "ELSEWHERE"}, True, "under another authority"),
    ],
)
def test_a_result_whose_patient_cannot_be_told_is_not_sent(
    changes: dict[str, Any], needs_authority: bool, why: str, tmp_path: Path
) -> None:
    foreign = replace(OPTIONS, issuers={"HOME": "urn:oid:1.2"})
    one = item(tmp_path, **changes)
    answer = analysis(sources=(radiograph(**changes),))
    one.path.write_bytes(build_message(answer, CONTEXT, (), foreign, one.artifact.uid).encode())
    with running_receiver() as receiver:
        (told,) = sent(receiver.port, [one], needs_authority=needs_authority)
    assert isinstance(told.error, DeliveryRefused)
    assert why in str(told.error)
    assert receiver.received == []


def test_what_a_hostile_worker_wrote_is_not_sent(tmp_path: Path) -> None:
    one = item(tmp_path)
    one.path.write_bytes(one.path.read_bytes().replace(b"||RAD|P\r", b"||RAD|F\r"))
    with running_receiver() as receiver:
        (told,) = sent(receiver.port, [one])
    assert "not one that the node makes" in str(told.error)
    assert isinstance(told.error, DeliveryRefused)
    assert receiver.received == []


def test_the_link_to_the_images_is_put_in_for_the_receiver(tmp_path: Path) -> None:
    with running_receiver() as receiver:
        sent(receiver.port, [item(tmp_path)], viewer_url="https://viewer.example/?acc={accession_number}&x=1")
    assert (
        r"|RP|ai-viewer^Images in the viewer^99AINODE||https://viewer.example/?acc=ACC1\T\x=1^^" in receiver.received[0]
    )


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def wants_certificates(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.certificate, certificates.server.private_key)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def over_tls(receiver: Hl7Receiver, certificates: Certificates, shown: Identity | None, name: str = "*") -> MllpPeer:
    own = (shown.certificate, shown.private_key) if shown else (None, None)
    return MllpPeer("127.0.0.1", receiver.port, PATIENT_S, Tls(name, certificates.ca, *own))


def test_a_message_arrives_over_tls_with_the_certificate_of_the_node(
    certificates: Certificates, tmp_path: Path
) -> None:
    with running_receiver(tls=wants_certificates(certificates)) as receiver:
        peer = over_tls(receiver, certificates, certificates.modality)
        assert check_hl7(peer, None).ok
        assert [one.error for one in sent(receiver.port, [item(tmp_path)], peer=peer)] == [None]


def test_a_certificate_that_the_receiver_does_not_take_suspends_it(certificates: Certificates, tmp_path: Path) -> None:
    with running_receiver(tls=wants_certificates(certificates)) as receiver:
        for shown in (None, certificates.rogue):
            peer = over_tls(receiver, certificates, shown)
            (told,) = sent(receiver.port, [item(tmp_path)], peer=peer)
            assert isinstance(told.error, CredentialsRefused | DeliveryDeferred)
            assert not check_hl7(peer, None).ok
            with pytest.raises(DeliveryDeferred):
                reach_hl7(peer)
    assert receiver.received == []


def test_the_receiver_must_be_who_it_says(certificates: Certificates, tmp_path: Path) -> None:
    with running_receiver(tls=wants_certificates(certificates)) as receiver:
        peer = over_tls(receiver, certificates, certificates.modality, "ris.hospital")
        (told,) = sent(receiver.port, [item(tmp_path)], peer=peer)
    assert isinstance(told.error, DestinationAway)
    assert "ris.hospital" in str(told.error)


def test_a_receiver_without_tls_is_not_spoken_to_in_clear(certificates: Certificates, tmp_path: Path) -> None:
    with running_receiver() as receiver:
        peer = replace(over_tls(receiver, certificates, None), timeout_s=SHORT_S)
        (told,) = sent(receiver.port, [item(tmp_path)], peer=peer)
    assert isinstance(told.error, DestinationAway)
    assert receiver.received == []


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_the_doctor_connects_and_sends_a_test_message_only_if_asked() -> None:
    with running_receiver() as receiver:
        peer = MllpPeer("127.0.0.1", receiver.port, PATIENT_S)
        assert check_hl7(peer, None).ok
        assert receiver.received == []
        answer = check_hl7(peer, ("AINODE", Receiver(applications=("", "RIS"))))
        assert answer.ok
        assert "accepted (AA)" in answer.text
    assert [str(one.segment("MSH")[11]) for one in receiver.messages()] == ["T"]


def test_the_doctor_tells_what_is_wrong() -> None:
    nobody = check_hl7(MllpPeer("127.0.0.1", free_port(), PATIENT_S), None)
    assert not nobody.ok
    assert "Check host and port" in nobody.advice
    with running_receiver("AR") as receiver:
        refusing = check_hl7(MllpPeer("127.0.0.1", receiver.port, PATIENT_S), ("AINODE", Receiver()))
    assert not refusing.ok
    assert "AR" in refusing.text
