"""Each destination gets what it wants and takes: real peers that take little, refuse, and change their minds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import update

from dicom_node.core.outputs.artifact_kinds import (
    ENCAPSULATED_PDF,
    PARAMETRIC_MAP,
    PRESENTATION_STATE,
    REPORTS,
    RESULT_CLASSES,
    SECONDARY_CAPTURE,
    SEGMENTATION,
)
from dicom_node.dimse.retrieve_scu import STUDY_ROOT_FIND
from dicom_node.index.decided import actions
from dicom_node.index.tables import artifacts, deliveries, peer_capabilities
from dicom_node.sr_writer import write_objects
from tests.integration.step_by_step_node import Site, site
from tests.peers.dcmtk import Receiver, profile_taking, running_storescp
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port
from tests.support.results import analysis_examples as examples
from tests.support.results.arrivals import after
from tests.support.results.folders import objects_in
from tests.support.results.result_answers import every_output_set
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

MODEST = (SECONDARY_CAPTURE, REPORTS["comprehensive"])


def pacs_at(port: int, aet: str = "STORESCP", **changes: Any) -> dict[str, Any]:
    there = {"name": "pacs", "kind": "dicom", "ae_title": aet, "host": "127.0.0.1", "port": port}
    return there | changes


def folder_at(path: Path, **changes: Any) -> dict[str, Any]:
    return {"name": path.name, "kind": "folder", "path": path} | changes


@contextmanager
def taking(folder: Path, *classes: str, port: int = 0, syntax: str = "LittleEndianExplicit") -> Iterator[Receiver]:
    profile = profile_taking(folder, classes, syntax)
    with running_storescp(folder, "-xf", str(profile), "Default", port=port) as receiver:
        yield receiver


class Refusing:
    """A receiver that agrees to everything and then answers 0x0122 for some classes; it keeps what it takes."""

    def __init__(self, *refused: str) -> None:
        self.refused, self.received = refused, list[Dataset]()

    @contextmanager
    def serving(self) -> Iterator[int]:
        entity = AE("PICKY")
        entity.supported_contexts = AllStoragePresentationContexts
        server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        if event.request.AffectedSOPClassUID in self.refused:
            return 0x0122
        self.received.append(event.dataset)
        return 0x0000


@pytest.fixture(scope="module")
def images() -> Sequence[Dataset]:
    return small_chest_ct()[0]


def modalities(received: Sequence[Dataset]) -> list[str]:
    return sorted(str(one.Modality) for one in received)


def evidence(report: Dataset) -> set[str]:
    """The classes of the objects a report refers to, as PS3.3 C.17.6 lists them."""
    found = set()
    for study in report.get("CurrentRequestedProcedureEvidenceSequence", []):
        for series in study.ReferencedSeriesSequence:
            found |= {str(one.ReferencedSOPClassUID) for one in series.ReferencedSOPSequence}
    return found


def test_a_pacs_that_takes_little_gets_just_that(tmp_path: Path, images: Sequence[Dataset]) -> None:
    with taking(tmp_path / "pacs", *MODEST) as pacs:
        wanted = pacs_at(pacs.port, preset="weasis", outputs={"segmentation": "labelmap"})
        with site(tmp_path / "node", [wanted]) as node:
            node.ask()
            node.run(images)
            assert set(node.kinds_of("pacs")) == {"SC", "SR"}
            (said,) = node.told("outputs")
    (report,) = (one for one in pacs.datasets() if one.Modality == "SR")
    assert report.SOPClassUID == REPORTS["comprehensive"]
    assert not evidence(report) & {SEGMENTATION, PRESENTATION_STATE, ENCAPSULATED_PDF}
    assert said == (
        "pacs takes no SR comprehensive3d and gets comprehensive. pacs takes no SEG. pacs takes no GSPS. "
        "pacs takes no KOS. pacs takes no PDF."
    )


def test_a_pacs_that_was_away_is_told_again_in_what_it_takes(tmp_path: Path, images: Sequence[Dataset]) -> None:
    port = free_port()
    with site(tmp_path / "node", [pacs_at(port), folder_at(tmp_path / "files")]) as node:
        node.ask()
        node.run(images)
        assert {kind.split()[-1] for kind in node.kinds_of("pacs")} == {"PENDING"}
        before = {row.uid for row in node.rows(artifacts)}
        with taking(tmp_path / "pacs", *MODEST, port=port) as pacs:
            node.settle()
        received = pacs.datasets()
        (again,) = node.told("requeued")
        kinds = node.kinds_of("pacs")
        made = {row.uid: row for row in node.rows(artifacts)}
    assert set(kinds) == {"SC", "SR"}
    assert again == "pacs does not take SEG: the job is queued again, for what it takes."
    (report,) = (one for one in received if one.Modality == "SR")
    assert report.SOPClassUID == REPORTS["comprehensive"]
    assert SEGMENTATION not in evidence(report)
    # What it got before stays as it was: no picture has come twice under another UID.
    assert {one.SOPInstanceUID for one in received if one.Modality != "SR"} <= before
    assert len([row for row in made.values() if row.kind == "SEG"]) == 1
    # The folder keeps its own report, of the class and with the masks that it was told with.
    assert {made[path.stem.split("-")[1]].kind for path in objects_in(tmp_path / "files")} == {
        "SC",
        "SEG",
        "SR",
        "FHIR",
    }


def test_a_class_refused_on_storing_is_not_referred_to(tmp_path: Path, images: Sequence[Dataset]) -> None:
    picky = Refusing(SEGMENTATION, REPORTS["comprehensive3d"])
    with picky.serving() as port, site(tmp_path / "node", [pacs_at(port, "PICKY")]) as node:
        node.ask()
        node.run(images)
        assert set(node.kinds_of("pacs")) == {"SC", "SR"}
        assert len(node.told("requeued")) == 2
        node.ask()
        (memory,) = node.rows(peer_capabilities)
    assert set(memory.refused) == {SEGMENTATION, REPORTS["comprehensive3d"], STUDY_ROOT_FIND}
    uids = [one.SOPInstanceUID for one in picky.received]
    assert len(set(uids)) == len(uids)
    (report,) = (one for one in picky.received if one.Modality == "SR")
    assert report.SOPClassUID == REPORTS["comprehensive"]
    assert SEGMENTATION not in evidence(report)


@contextmanager
def web_pacs_refusing(sop_class_uid: str, stored: list[Dataset]) -> Iterator[str]:
    """A STOW-RS server that answers 409 with failure reason 0x0122 for one class; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            dataset = dcmread(BytesIO(body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]))
            refused = dataset.SOPClassUID == sop_class_uid
            stored.extend([] if refused else [dataset])
            failed = {"00081155": {"Value": [dataset.SOPInstanceUID]}, "00081197": {"Value": [0x0122]}}
            answer = json.dumps({"00081198": {"Value": [failed]}} if refused else {}).encode()
            self.send_response(409 if refused else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_web_pacs_that_refuses_a_class_is_believed_too(tmp_path: Path, images: Sequence[Dataset]) -> None:
    stored: list[Dataset] = []
    with web_pacs_refusing(SEGMENTATION, stored) as url:
        web = {"name": "pacs", "kind": "dicomweb", "url": url}
        with site(tmp_path / "node", [web]) as node:
            node.run(images)
            assert set(node.kinds_of("pacs")) == {"SC", "SR"}
    (report,) = (one for one in stored if one.Modality == "SR")
    assert SEGMENTATION not in evidence(report)
    assert report.SOPClassUID == REPORTS["comprehensive3d"]


def test_a_class_the_site_insists_on_is_parked_and_not_told_again(tmp_path: Path, images: Sequence[Dataset]) -> None:
    picky = Refusing(REPORTS["enhanced"])
    wanted = {"outputs": {"sr_sop_class": "enhanced"}}
    with picky.serving() as port, site(tmp_path / "node", [pacs_at(port, "PICKY", **wanted)]) as node:
        node.run(images)
        assert node.kinds_of("pacs").count("SR PARKED") == 1
        assert node.told("requeued") == []


def test_a_destination_that_changes_its_mind_gets_the_next_study_as_it_takes_it(
    tmp_path: Path, images: Sequence[Dataset]
) -> None:
    port = free_port()
    with site(tmp_path / "node", [pacs_at(port)]) as node:
        with running_storescp(tmp_path / "before", port=port) as pacs:
            node.ask()
            node.run(images[:-1])
            assert {"SEG", "SR"} <= set(modalities(pacs.datasets()))
        with taking(tmp_path / "after", *MODEST, port=port) as pacs:
            node.run(images[-1:])
            assert set(modalities(pacs.datasets())) == {"OT", "SR"}
            (report,) = (one for one in pacs.datasets() if one.Modality == "SR")
            assert len(node.told("requeued")) == 1
        before = next(dcmread(one) for one in (tmp_path / "before").rglob("SR*"))
    predecessor = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert report.SOPClassUID == REPORTS["comprehensive"] != before.SOPClassUID


def test_two_viewers_get_a_report_each_and_share_the_pictures(tmp_path: Path, images: Sequence[Dataset]) -> None:
    weasis, plain = tmp_path / "weasis", tmp_path / "plain"
    with site(tmp_path / "node", [folder_at(weasis, preset="weasis"), folder_at(plain)]) as node:
        node.run(images)
    shown = {folder: {path.name.split("-")[0] for path in objects_in(folder)} for folder in (weasis, plain)}
    assert shown == {weasis: {"SC", "SEG", "GSPS", "KOS", "PDF", "SR", "FHIR"}, plain: {"SC", "SEG", "SR", "FHIR"}}
    names = {folder: {path.name for path in objects_in(folder)} for folder in (weasis, plain)}
    assert {name for name in names[plain] if name not in names[weasis]} == {
        path.name for path in plain.glob("SR-*.dcm")
    }
    (rich,), (poor,) = ([dcmread(path) for path in folder.glob("SR-*.dcm")] for folder in (weasis, plain))
    assert rich.SOPInstanceUID != poor.SOPInstanceUID
    assert PRESENTATION_STATE not in evidence(poor)
    bundle = next(weasis.glob("FHIR-*")).read_text()
    assert rich.SOPInstanceUID in bundle
    assert poor.SOPInstanceUID not in bundle


def test_what_is_added_to_a_destination_comes_without_a_second_copy_of_the_rest(
    tmp_path: Path, images: Sequence[Dataset]
) -> None:
    files = tmp_path / "files"
    with site(tmp_path / "node", [folder_at(files, outputs={"sr_sop_class": "off"})]) as node:
        node.run(images)
        before = {path.name: path.read_bytes() for path in objects_in(files)}
        assert {name.split("-")[0] for name in before} == {"SC", "SEG", "FHIR"}
        node.configure([folder_at(files, outputs={"encapsulated_pdf": True})])
        with node.database.write() as connection:
            actions.rerun_study(connection, str(images[0].StudyInstanceUID), None, SOMEBODY, after(0))
        node.settle()
    now = {path.name: path.read_bytes() for path in objects_in(files)}
    assert now.items() >= before.items()
    assert sorted(name.split("-")[0] for name in now.keys() - before.keys()) == ["FHIR", "PDF", "SR"]


def test_without_a_report_bundles_follow_each_other_all_the_same(tmp_path: Path, images: Sequence[Dataset]) -> None:
    files = tmp_path / "files"
    nothing = {"sr_sop_class": "off", "secondary_capture": False, "segmentation": "off"}
    with site(tmp_path / "node", [folder_at(files, outputs=nothing)]) as node:
        node.run(images[:-1])
        node.run(images[-1:])
    bundles = [json.loads(path.read_text()) for path in files.iterdir()]
    reports = [
        entry["resource"] for one in bundles for entry in one["entry"]
        if entry["resource"]["resourceType"] == "DiagnosticReport"
    ]  # fmt: skip
    assert len(reports) == 2
    first, second = ([one for one in report["identifier"] if one.get("use") == "official"] for report in reports)
    assert first == second


def test_a_rejection_note_goes_last_and_names_what_the_pacs_still_shows(
    tmp_path: Path, images: Sequence[Dataset]
) -> None:
    port = free_port()
    wanted = pacs_at(port, outputs={"rejection_note": True})
    with running_storescp(tmp_path / "pacs", port=port) as pacs, site(tmp_path / "node", [wanted]) as node:
        arrived: list[set[str]] = []
        for some in (images[:-2], images[-2:-1], images[-1:]):
            node.run(some)
            known = {uid for one in arrived for uid in one}
            arrived.append({str(one.SOPInstanceUID) for one in pacs.datasets()} - known)
        kinds = {row.uid: row.kind for row in node.rows(artifacts)}
        sent = sorted((row.sent_at, row.artifact_uid) for row in node.rows(deliveries))
    notes = [one for one in pacs.datasets() if one.Modality == "KO"]
    assert len(notes) == 2
    rejected = sorted((named(note) for note in notes), key=len)
    without_notes = [{uid for uid in one if kinds[uid] != "REJECT"} for one in arrived]
    assert {frozenset(one) for one in rejected} == {frozenset(one) for one in without_notes[:2]}
    assert kinds[sent[-1][1]] == "REJECT"
    assert len(sent) == sum(map(len, arrived))


def named(note: Dataset) -> set[str]:
    return {
        str(one.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def test_a_rejection_note_waits_for_what_replaces_the_objects(tmp_path: Path, images: Sequence[Dataset]) -> None:
    picky = Refusing()
    wanted = {"outputs": {"rejection_note": True, "sr_sop_class": "enhanced"}}
    with picky.serving() as port, site(tmp_path / "node", [pacs_at(port, "PICKY", **wanted)]) as node:
        node.run(images[:-1])
        picky.refused = (REPORTS["enhanced"],)
        node.run(images[-1:])
        assert [kind for kind in node.kinds_of("pacs") if " " in kind] == ["SR PARKED", "REJECT PENDING"]
        picky.refused = ()
        with node.database.write() as connection:
            actions.retry_study(connection, str(images[0].StudyInstanceUID), SOMEBODY, after(0))
        node.settle()
        assert [kind for kind in node.kinds_of("pacs") if " " in kind] == []
    assert picky.received[-1].Modality == "KO"


@pytest.mark.parametrize("syntax", ["LittleEndianImplicit", "LittleEndianExplicit"])
def test_a_peer_of_one_transfer_syntax_gets_equal_values(
    tmp_path: Path, images: Sequence[Dataset], syntax: str
) -> None:
    port = free_port()
    everything = pacs_at(port, preset="weasis", outputs={"segmentation": "fractional", "parametric_map": True})
    pacs_taking = taking(tmp_path / "pacs", *RESULT_CLASSES, port=port, syntax=syntax)
    with pacs_taking as pacs, site(tmp_path / "node", [everything]) as node:
        node.ask()
        (memory,) = node.rows(peer_capabilities)
        node.run(images)
        made = [row for row in node.rows(artifacts) if row.sop_class_uid]
        stored = {row.uid: dcmread(node.spool.path(row.object_key)) for row in made}
        assert not [kind for kind in node.kinds_of("pacs") if " " in kind]
    received = pacs.datasets()
    uid = {"LittleEndianImplicit": ImplicitVRLittleEndian, "LittleEndianExplicit": ExplicitVRLittleEndian}[syntax]
    assert memory.accepted == {one: [uid] for one in RESULT_CLASSES}
    assert {one.file_meta.TransferSyntaxUID for one in received} == {uid}
    assert len(received) == len(stored)
    for one in received:
        here, there = dict(leaves(stored[str(one.SOPInstanceUID)])), dict(leaves(one))
        assert here.keys() == there.keys()
        assert {k: (here[k], there[k]) for k in here if here[k] != there[k]} == {}


def leaves(dataset: Dataset, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value with the way to it; value representations are left out: implicit encodings do not carry them."""
    for element in dataset:
        here = f"{path}/{element.tag}"
        if element.VR == "SQ":
            yield here, len(element.value)
            for number, item in enumerate(element.value):
                yield from leaves(item, f"{here}[{number}]")
        else:
            yield here, element.value


def test_orthanc_stores_all_there_is(orthanc: Orthanc, tmp_path: Path, images: Sequence[Dataset]) -> None:
    everything = {
        "presentation_state": True, "parametric_map": True, "key_objects": True, "encapsulated_pdf": True,
        "segmentation": "labelmap", "rejection_note": True,
    }  # fmt: skip
    with site(tmp_path / "node", [pacs_at(orthanc.dicom_port, orthanc.aet, outputs=everything)]) as node:
        node.ask()
        node.run(images[:-1])
        node.run(images[-1:])
        kinds = node.kinds_of("pacs")
    assert not [kind for kind in kinds if " " in kind]
    assert {"SC", "SEG", "GSPS", "KOS", "PDF", "SR", "REJECT"} <= set(kinds)


def test_every_kind_is_of_a_class_that_peers_are_asked_for_and_no_uid_stands_for_two() -> None:
    context = examples.context(output_sets=every_output_set())
    written = write_objects(examples.ct_analysis(), context)
    assert {str(one.dataset.SOPClassUID) for one in written} == RESULT_CLASSES.keys() - {PARAMETRIC_MAP}
    uids = [one.dataset.SOPInstanceUID for one in written]
    assert len(set(uids)) == len(uids)
    classified = write_objects(examples.radiograph_analysis(), context)
    assert {str(one.dataset.SOPClassUID) for one in classified} <= RESULT_CLASSES.keys()


def test_memory_is_asked_for_again_when_it_is_old_or_of_another_address(tmp_path: Path) -> None:
    port, elsewhere = free_port(), free_port()
    modest = taking(tmp_path / "one", *MODEST, port=port)
    with modest, running_storescp(tmp_path / "other", port=elsewhere), site(tmp_path / "n", [pacs_at(port)]) as node:
        assert heard(node) == {"asked": True, "report": "comprehensive"}
        assert heard(node) == {"asked": False, "report": "comprehensive"}
        with node.database.write() as connection:
            connection.execute(update(peer_capabilities).values(asked_at=after(0), heard_at=after(0)))
        node.configure([pacs_at(port)])
        assert heard(node)["asked"]
        node.configure([pacs_at(elsewhere)])
        assert heard(node) == {"asked": True, "report": "comprehensive3d"}


def heard(node: Site) -> dict[str, Any]:
    peer = node.peers["pacs"]
    assert peer is not None
    asked = peer.ask_if_due(node.database)
    with node.database.read() as connection:
        return {"asked": asked, "report": peer.profiles.fitted(connection, "pacs").outputs.structured_report}
