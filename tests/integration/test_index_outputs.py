"""Output sets in the index, on SQLite and on PostgreSQL: who is owed what, what is replaced, what peers take."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select, update

from dicom_node.analysis.context import ReportLine
from dicom_node.core.entities import (
    Artifact,
    ArtifactKind,
    DeliveryState,
    Destination,
    JobOutcome,
    JobState,
    MediaType,
    StudyState,
)
from dicom_node.core.outputs.artifact_kinds import REPORTS, SECONDARY_CAPTURE, SEGMENTATION
from dicom_node.index import results
from dicom_node.index.database import Database
from dicom_node.index.jobs import ClaimedJob, requeue
from dicom_node.index.lineage import ReportLineage, earlier_reports, withdrawn_objects
from dicom_node.index.outbox import destinations as peers
from dicom_node.index.tables import artifacts, deliveries, events, jobs, peer_capabilities, studies
from dicom_node.index.tables import results as results_table
from tests.support.results.arrivals import STUDY, after, arrive, artifact, claimed, cut_study, instance

PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}), output_key="A", bundle_key="A")
VIEWER = Destination(name="viewer", takes=frozenset({MediaType.DICOM}), output_key="B", bundle_key="A")
EHR = Destination(name="ehr", takes=frozenset({MediaType.FHIR}), bundle_key="A")
FOLDER = Destination(name="folder", takes=frozenset({MediaType.ANY}), output_key="B", bundle_key="A")
PEER = ("pacs", "PACS@pacs.local:104")


def of_sets(name: str, kind: ArtifactKind, order: int, *keys: str) -> Artifact:
    return replace(artifact(name, kind, order), output_keys=keys)


def told(name: str, *more: Artifact, keys: tuple[str, ...] = ("A", "B"), at_s: float = 70.0) -> JobOutcome:
    """A result in two sets: a shared picture, a mask for B alone, a report for each, one bundle."""
    made = (
        of_sets(f"{name}-sc", ArtifactKind.SECONDARY_CAPTURE, 1, "A", "B"),
        of_sets(f"{name}-seg", ArtifactKind.SEGMENTATION, 2, "B"),
        of_sets(f"{name}-sr-a", ArtifactKind.STRUCTURED_REPORT, 3, "A"),
        of_sets(f"{name}-sr-b", ArtifactKind.STRUCTURED_REPORT, 4, "B"),
        of_sets(f"{name}-fhir", ArtifactKind.FHIR_BUNDLE, 5, "A"),
    )
    summary = {"finished_at": after(at_s).isoformat()}
    return JobOutcome(state=JobState.DONE, summary=summary, artifacts=(*made, *more), output_keys=keys)


def first_job(index: Database) -> ClaimedJob:
    arrive(index, instance("1"))
    cut_study(index)
    return claimed(index)


def save(index: Database, job: ClaimedJob, key: str, outcome: JobOutcome, *to: Destination) -> None:
    with index.write() as connection:
        assert results.save_result(connection, job, key, outcome, to)


def owed(index: Database, destination: str) -> list[str]:
    """What a destination is owed or has: names of test objects are not kept, so kind and set stand for them."""
    query = (
        select(artifacts.c.kind, artifacts.c.output_keys, deliveries.c.state)
        .join(deliveries, deliveries.c.artifact_uid == artifacts.c.uid)
        .where(deliveries.c.destination == destination)
        .order_by(deliveries.c.id)
    )
    with index.read() as connection:
        return [f"{row.kind} {''.join(row.output_keys)} {row.state}" for row in connection.execute(query)]


def arrived(index: Database, *names: str) -> None:
    with index.write() as connection:
        mine = deliveries.c.destination.in_(names)
        connection.execute(update(deliveries).where(mine).values(state=DeliveryState.SENT, sent_at=after(80)))


def test_each_destination_is_owed_its_set_and_the_bundle_where_it_is_read(index: Database) -> None:
    save(index, first_job(index), "key", told("x"), PACS, VIEWER, EHR, FOLDER)
    assert owed(index, "pacs") == ["SC AB PENDING", "SR A PENDING"]
    assert owed(index, "viewer") == ["SC AB PENDING", "SEG B PENDING", "SR B PENDING"]
    assert owed(index, "ehr") == ["FHIR A PENDING"]
    assert owed(index, "folder") == ["SC AB PENDING", "SEG B PENDING", "SR B PENDING", "FHIR A PENDING"]


def test_told_otherwise_a_result_keeps_what_it_has_and_owes_what_is_new(index: Database) -> None:
    save(index, first_job(index), "key", told("x"), PACS, VIEWER)
    with index.write() as connection:
        sent = deliveries.c.destination == "viewer"
        connection.execute(update(deliveries).where(sent).values(state=DeliveryState.SENT))
        parked = deliveries.c.artifact_uid == artifact("x-sr-a", ArtifactKind.STRUCTURED_REPORT, 3).uid
        connection.execute(update(deliveries).where(parked).values(state=DeliveryState.PARKED))
        assert requeue(connection, "key", "pacs does not take it", after(90))
        assert connection.scalar(select(studies.c.state)) == StudyState.ANALYSING
        assert "requeued" in connection.scalars(select(events.c.kind)).all()
        assert not requeue(connection, "key", "twice", after(91)), "it is queued already"
    job = claimed(index, at_s=95)
    assert (job.earlier_job_key, job.started_at) == ("", after(61))
    again = told("x", of_sets("x-sr-c", ArtifactKind.STRUCTURED_REPORT, 5, "C"), keys=("C", "B"))
    with index.read() as connection:
        assert results.has_result(connection, "key", ["A", "B"])
        assert not results.has_result(connection, "key", ["C", "B"])
    shared = (replace(again.artifacts[0], output_keys=("C", "B")), *again.artifacts[1:2], *again.artifacts[3:])
    save(index, job, "key", replace(again, artifacts=shared), replace(PACS, output_key="C"), VIEWER)
    assert owed(index, "pacs") == ["SC ABC PENDING", "SR C PENDING"]
    assert owed(index, "viewer") == ["SC ABC SENT", "SEG B SENT", "SR B SENT"]
    with index.read() as connection:
        assert connection.scalars(select(results_table.c.output_keys)).one() == ["A", "B", "C"]
        assert connection.scalars(select(jobs.c.job_key)).one() == "key"


def test_what_a_newer_revision_tells_is_not_told_again(index: Database) -> None:
    save(index, first_job(index), "key", told("x"), PACS)
    arrive(index, instance("2", at_s=90))
    with index.write() as connection:
        assert not requeue(connection, "key", "pacs does not take it", after(91))
        assert not requeue(connection, "another", "unknown", after(91))


def test_a_report_follows_the_one_that_its_reader_got(index: Database) -> None:
    save(index, first_job(index), "first", told("x"), PACS, VIEWER)
    arrived(index, "pacs", "viewer")
    now_c = {"C": ["pacs"], "B": ["viewer"], "D": ["somebody else"]}
    with index.read() as connection:
        next_result = earlier_reports(connection, _lineage("second", now_c))
        same_result = earlier_reports(connection, _lineage("first", {"A": ["pacs"], "C": ["pacs"]}))
    report = {one: artifact(f"x-sr-{one}", ArtifactKind.STRUCTURED_REPORT, 3).uid for one in "ab"}
    assert next_result["C"].sop_instance_uid == report["a"]
    assert next_result["B"].sop_instance_uid == report["b"]
    assert next_result.keys() == now_c.keys()
    assert [(key, one.sop_instance_uid) for key, one in same_result.items()] == [("C", report["a"])]
    assert {one.instance_number for one in (*next_result.values(), *same_result.values())} == {1}


def test_only_what_arrived_is_withdrawn_and_only_once(index: Database) -> None:
    save(index, first_job(index), "first", told("x"), PACS, VIEWER)
    arrived(index, "pacs")
    assert _withdrawn(index, "second") == {"x-sc": ("A",), "x-sr-a": ("A",)}
    assert _withdrawn(index, "first") == {}
    arrive(index, instance("2", at_s=90))
    cut_study(index, at_s=150)
    note = of_sets("y-note", ArtifactKind.REJECTION_NOTE, 6, "A")
    save(index, claimed(index, at_s=151), "second", told("y", note, at_s=160), PACS, VIEWER)
    arrived(index, "pacs")
    assert _withdrawn(index, "third") == {"y-sc": ("A",), "y-sr-a": ("A",)}
    arrived(index, "viewer")
    assert set(_withdrawn(index, "third", noting=("B",))) == {
        f"{n}-{one}" for n in "xy" for one in ("sc", "seg", "sr-b")
    }


def _lineage(job_key: str, destinations_of: dict[str, list[str]]) -> ReportLineage:
    line = ReportLine(model="ct-lung-density", route="chest-ct")
    return ReportLineage(study_instance_uid=STUDY, line=line, job_key=job_key, destinations_of=destinations_of)


def _withdrawn(index: Database, job_key: str, noting: tuple[str, ...] = ("A",)) -> dict[str, tuple[str, ...]]:
    names = {
        artifact(f"{result}-{one}", ArtifactKind.SEGMENTATION, 0).uid: f"{result}-{one}"
        for result in "xy"
        for one in ("sc", "seg", "sr-a", "sr-b", "note")
    }
    lineage = _lineage(job_key, {"A": ["pacs"], "B": ["viewer"]})
    with index.read() as connection:
        found = withdrawn_objects(connection, lineage, noting)
    return {names[one.sop_instance_uid]: one.output_keys for one in found}


def test_what_a_peer_said_is_kept_until_it_says_otherwise(index: Database) -> None:
    with index.write() as connection:
        assert peers.recall(connection, *PEER) is None
        peers.note_silence(connection, PEER, after(0))
        silent = peers.recall(connection, *PEER)
        peers.remember(connection, PEER, "MAKE_1", {SECONDARY_CAPTURE: ["1.2.840.10008.1.2"]}, after(10))
        peers.note_silence(connection, PEER, after(20))
        heard = peers.recall(connection, *PEER)
    assert silent is not None
    assert heard is not None
    assert silent.capabilities(after(1)).takes(SEGMENTATION), "nothing is known, so nothing is left out"
    assert not heard.capabilities(after(21)).takes(SEGMENTATION)
    assert (heard.implementation, heard.asked_at, heard.heard_at) == ("MAKE_1", after(20), after(10))
    with index.write() as connection:
        assert peers.recall(connection, "pacs", "PACS@elsewhere:104") is None
        peers.note_refusal(connection, ("pacs", "PACS@elsewhere:104"), SEGMENTATION, after(30))
        (row,) = connection.execute(select(peer_capabilities)).all()
    assert (row.accepted, row.implementation, list(row.refused)) == (None, "", [SEGMENTATION])


def test_one_that_does_not_say_whose_study_it_has_is_asked_again_after_an_hour_and_loses_nothing_else(
    index: Database,
) -> None:
    hour = 3600
    with index.write() as connection:
        peers.note_refusal(connection, PEER, SEGMENTATION, after(0))
        assert peers.note_query_refusal(connection, PEER, after(10))
        unasked = peers.recall(connection, *PEER)
        assert not peers.note_query_refusal(connection, PEER, after(hour + 20)), "that was known"
        again = peers.recall(connection, *PEER)
        peers.note_query_answered(connection, PEER)
        answering = peers.recall(connection, *PEER)
    assert unasked is not None
    assert again is not None
    assert answering is not None
    assert (unasked.unasked_since(after(11)), unasked.unasked_since(after(hour + 11))) == (after(10), None)
    assert unasked.unasked_since(after(0)) is None, "the clock was set back"
    assert again.unasked_since(after(hour + 21)) == after(hour + 20)
    assert answering.query_refused_at is None
    assert not answering.capabilities(after(30)).takes(SEGMENTATION)


def test_a_refusal_counts_for_a_day_and_outlives_what_the_peer_says_of_itself(index: Database) -> None:
    wanted = REPORTS["comprehensive3d"]
    with index.write() as connection:
        peers.remember(connection, PEER, "MAKE_1", {wanted: ["1.2.840.10008.1.2"]}, after(0))
        peers.note_refusal(connection, PEER, wanted, after(10))
        proven_wrong = peers.recall(connection, *PEER)
        peers.remember(connection, PEER, "MAKE_1", {wanted: ["1.2.840.10008.1.2"]}, after(20))
        known = peers.recall(connection, *PEER)
    assert proven_wrong is not None
    assert proven_wrong.asked_at is None, "it is to be asked again at once"
    assert known is not None
    assert not known.capabilities(after(30)).takes(wanted)
    assert known.capabilities(after(10) + timedelta(days=1)).takes(wanted)
