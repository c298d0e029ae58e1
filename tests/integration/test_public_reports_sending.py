"""What others have reported of archives that results are sent to, tried against the sender; each test links it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel  # type: ignore[attr-defined]

from dicom_node.core.errors import DestinationAway
from dicom_node.deliver.kinds.dicom import DicomDestination
from dicom_node.deliver.kinds.dicomweb import DicomWebDestination
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.kind import Caller, DestinationKind
from dicom_node.deliver.outgoing import Outgoing
from dicom_node.deliver.senders.dicom import DicomSender
from dicom_node.dimse.negotiation import Remote
from tests.integration.sent_objects import SOP_CLASSES, outgoing
from tests.integration.test_commitment import PATIENCE_S, ask, references, reports_into, requester
from tests.integration.test_fhir_odd_answers import BUNDLE, stored_bundle
from tests.peers.node import Node
from tests.peers.process import free_port
from tests.support import needs
from tests.support.studies.data_factories import small_chest_ct


@pytest.fixture
def results(tmp_path: Path) -> list[Outgoing]:
    return [outgoing(tmp_path, kind.lower(), kind) for kind in SOP_CLASSES]


@contextmanager
def archive(*handlers: Any, host: str = "127.0.0.1") -> Iterator[int]:
    """A receiver of another make; yields its port."""
    scp = AE("ARCHIVE")
    for sop_class in SOP_CLASSES.values():
        scp.add_supported_context(sop_class)
    server: Any = scp.start_server((host, 0), block=False, evt_handlers=list(handlers))
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def sender(port: int, host: str = "127.0.0.1") -> DicomSender:
    return DicomSender(Remote(host, port, "ARCHIVE", "AINODE", 60.0))


def test_an_archive_that_takes_one_object_an_association_gets_all_of_them_once(results: Sequence[Outgoing]) -> None:
    """It hangs up behind its first answer, without a release: github.com/dcm4che/dcm4chee-arc-light/issues/2353."""
    stored: list[str] = []

    def store(event: Any) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def hang_up(event: Any) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            event.assoc.dul.socket.close()

    left, rounds = list(results), 0
    with archive((evt.EVT_C_STORE, store), (evt.EVT_PDU_SENT, hang_up)) as port:
        while left and rounds < len(results):
            rounds += 1
            errors = {one.artifact_uid: one.error for one in sender(port).send(left)}
            left = [item for item in left if errors[item.artifact.uid] is not None]
    assert left == []
    assert sorted(stored) == sorted(item.artifact.uid for item in results)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "pacs..example", f"{'x' * 70}.example"])
@pytest.mark.parametrize("kind", ["dicom", "dicomweb", "fhir"])
def test_a_host_that_has_no_address_is_a_destination_that_is_away(
    results: Sequence[Outgoing], kind: str, host: str
) -> None:
    """A name with an empty part ended in an error that nobody expected:
    github.com/openbikesensor/portal/issues/301."""
    destinations: dict[str, DestinationKind] = {
        "dicom": DicomDestination(name="it", kind="dicom", ae_title="ARCHIVE", host=host, port=104),
        "dicomweb": DicomWebDestination(name="it", kind="dicomweb", url=f"https://{host}/dicom-web"),
        "fhir": FhirDestination(name="it", kind="fhir", url=f"https://{host}/fhir"),
    }
    bundles = [stored_bundle(results[0].path.parent, BUNDLE)]

    sent = list(destinations[kind].sender(Caller("AINODE", 60.0)).send(bundles if kind == "fhir" else results))

    assert {type(one.error) for one in sent} == {DestinationAway}
    assert len(sent) == (1 if kind == "fhir" else len(results))


def test_an_archive_on_ipv6_gets_its_objects(results: Sequence[Outgoing]) -> None:
    """An archive that has an IPv6 address only: github.com/pydicom/pynetdicom/issues/984."""
    needs.ipv6()
    with archive((evt.EVT_C_STORE, lambda _: 0), host="::1") as port:
        assert [one.error for one in sender(port, "::1").send(results)] == [None] * len(results)


def test_the_outcome_of_a_commitment_comes_from_the_title_that_was_asked(node: Callable[..., Node]) -> None:
    """Modalities expect the title they called: github.com/dcm4che/dcm4chee-arc-light/issues/3592."""
    port, image = free_port(), small_chest_ct()[0][0]
    one = node(route=[], peer=[{"ae_title": "MOD1", "host": "127.0.0.0/8", "port": port}], ae=[{"ae_title": "TRIAL"}])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    callers: queue.Queue[str] = queue.Queue()
    listener = AE(ae_title="MOD1")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    note = (evt.EVT_ACCEPTED, lambda event: callers.put(event.assoc.requestor.ae_title))
    server: Any = listener.start_server(("127.0.0.1", port), block=False, evt_handlers=[*reports_into(heard), note])
    try:
        one.aet = "TRIAL"
        with requester(one, queue.Queue()) as association:
            assert association.send_c_store(image).Status == 0
            assert ask(association, references((str(CTImageStorage), str(image.SOPInstanceUID)))) == 0
        assert heard.get(timeout=PATIENCE_S)[0] == 1
        assert callers.get(timeout=PATIENCE_S).strip() == "TRIAL"
    finally:
        server.shutdown()
