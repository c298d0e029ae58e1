"""Images and results are deleted by age, by want of space and never while they are needed; on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select, text, update

from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import DeletionState, KeptKind
from dicom_node.core.errors import IllegalTransition, NotFound
from dicom_node.core.retention.rules import RetentionLimits
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.retention import deletions as steps
from dicom_node.index.retention.deletions import deletions_of
from dicom_node.index.retention.facts import facts_of
from dicom_node.index.retention.holds import hold_study, release_study
from dicom_node.index.tables import artifacts, damaged_objects, deletions, deliveries, instances, results, studies
from dicom_node.operate.backup.objects import is_named, named_now
from dicom_node.operate.backup.sqlite import NAMED_KEYS
from dicom_node.operate.retention.rules import Retention
from dicom_node.operate.scrub import Scrub
from tests.integration.step_by_step_node import Site
from tests.support.results import analysis_examples as examples
from tests.support.results.aged import grow_old
from tests.support.results.rows import SOMEBODY

IMAGES = examples.ct_volume()
UID = str(IMAGES[0].StudyInstanceUID)
LIMITS = RetentionLimits(images_days=90, results_days=400)


class KeptAudit:
    """Remembers what was written down."""

    fault = ""

    def __init__(self) -> None:
        self.events: dict[str, AuditedEvent] = {}

    def record(self, event: AuditedEvent) -> None:
        self.note(event, str(len(self.events)))

    def note(self, event: AuditedEvent, key: str = "") -> None:
        self.events.setdefault(key, event)


@pytest.fixture
def audit() -> KeptAudit:
    return KeptAudit()


@pytest.fixture
def node(tmp_path: Path, index: Database) -> Iterator[Site]:
    folder = tmp_path / "node"
    folder.mkdir()
    site = Site(folder, index, [{"kind": "folder", "name": "archive", "path": str(tmp_path / "archive")}])
    yield site
    site.intake.close()


@pytest.fixture
def retention(node: Site, audit: KeptAudit) -> Callable[..., Retention]:
    def made(limits: RetentionLimits = LIMITS) -> Retention:
        return Retention(node.database, node.spool, audit, limits, pause_s=0)

    return made


def study(node: Site) -> Any:
    return next(row for row in node.rows(studies) if row.study_instance_uid == UID)


def files(node: Site) -> set[str]:
    return {node.spool.key_of(path) for path in node.spool.objects.rglob("*") if path.is_file()}


def archived(node: Site) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (node.folder.parent / "archive").iterdir()}


def arrive(node: Site, images: Sequence[Dataset] = IMAGES, days: float = 91) -> None:
    """Let a study come that no route wants, so long ago."""
    node.configure([], when={"modality": "MR"})
    node.receive(images)
    grow_old(node.database, node.spool, 0.1, str(images[0].StudyInstanceUID))
    node.sweep()
    grow_old(node.database, node.spool, days, str(images[0].StudyInstanceUID))


# --- what goes, and what is left ---------------------------------------------------------------------------------


def test_images_go_by_their_age(node: Site, retention: Callable[..., Retention], audit: KeptAudit) -> None:
    arrive(node, days=89)
    assert (study(node).state, retention().run()) == ("NOT_ANALYSED", [])
    grow_old(node.database, node.spool, 2)
    (gone,) = retention().run()
    assert (gone.kind, gone.rule, gone.objects, gone.actor) == (
        KeptKind.IMAGES,
        "images_days = 90",
        len(IMAGES),
        "node",
    )
    assert (node.rows(instances), files(node)) == ([], set())
    assert study(node).images_deleted_at == study(node).results_deleted_at  # nothing was made of it
    assert study(node).deleting == ""
    (line,) = node.told("deleted")
    assert line.startswith("Its images were deleted by rule images_days = 90: ")
    (event,) = audit.events.values()
    assert (event.act, event.study_instance_uid) == (AuditedAct.DELETION, UID)
    assert event.detail["objects"] == len(IMAGES)
    assert retention().run() == retention().plan() == []


def test_results_go_later_and_leave_a_tombstone_that_says_what_was_there(
    node: Site, retention: Callable[..., Retention]
) -> None:
    node.run(IMAGES)
    made = len(node.rows(artifacts))
    grow_old(node.database, node.spool, 401)
    first, second = retention().run()
    assert (first.kind, second.kind) == (KeptKind.IMAGES, KeptKind.RESULTS)
    assert files(node) == set()
    assert {row.state for row in node.rows(artifacts)} == {"PURGED"}
    (result,) = node.rows(results)
    assert (result.summary["findings"], result.standing) == ([], "CURRENT")
    with node.database.read() as connection:
        told = deletions_of(connection, UID)
    assert [one.objects for one in told] == [len(IMAGES), made]
    assert told[0].detail["images"] == len(IMAGES)
    assert sum(one["objects"] for one in told[0].detail["series"]) == len(IMAGES)
    assert " by rule results_days = 400: " in told[1].in_words
    assert {row.state for row in node.rows(deliveries)} == {"SENT"}  # what went where is known for ever

    sent = archived(node)
    node.run(IMAGES)  # and once more
    assert study(node).state == "REPORTED"
    assert archived(node) == sent
    assert len(node.rows(results)) == 1
    with node.database.write() as connection, pytest.raises(IllegalTransition, match="deleted here"):
        actions.retry_delivery(connection, node.rows(deliveries)[0].id, SOMEBODY, datetime.now(UTC))


def test_nothing_is_deleted_unless_it_is_set(node: Site, retention: Callable[..., Retention]) -> None:
    arrive(node, days=9000)
    assert retention(RetentionLimits()).run() == []
    (choice,) = retention(RetentionLimits()).plan()
    assert choice.stays is not None
    assert choice.stays.code == "NO_LIMIT"


def test_what_is_owed_stays_until_it_is_delivered(node: Site, retention: Callable[..., Retention]) -> None:
    node.receive(IMAGES)
    node.analyse()
    grow_old(node.database, node.spool, 91)
    assert retention().run() == []
    (choice,) = retention().plan()
    assert choice.stays is not None
    assert choice.stays.code == "OWED"
    node.deliver()
    grow_old(node.database, node.spool, 91)
    assert [one.kind for one in retention().run()] == [KeptKind.IMAGES]


def test_what_a_person_holds_stays_until_they_release_it(node: Site, retention: Callable[..., Retention]) -> None:
    arrive(node)
    now = datetime.now(UTC)
    with node.database.write() as connection:
        hold_study(connection, UID, "for teaching", SOMEBODY, now)
    with pytest.raises(IllegalTransition, match="held already"), node.database.write() as connection:
        hold_study(connection, UID, "once more", SOMEBODY, now)
    with pytest.raises(NotFound), node.database.write() as connection:
        hold_study(connection, "1.2.3", "nobody's", SOMEBODY, now)
    assert retention().run() == []
    with node.database.write() as connection:
        release_study(connection, UID, SOMEBODY, now)
    with pytest.raises(IllegalTransition, match="Nobody holds"), node.database.write() as connection:
        release_study(connection, UID, SOMEBODY, now)
    assert len(retention().run()) == 1
    assert [SOMEBODY.name in line for line in node.told("hold")] == [True, True]


def test_want_of_space_takes_the_oldest_first_and_no_more_than_it_needs(
    node: Site, retention: Callable[..., Retention], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, images in enumerate([in_study(f"1.2.826.0.1.{number}") for number in (1, 2, 3)]):
        arrive(node, images, days=30 - number)
    grow_old(node.database, node.spool, 1)
    size = sum(row.size_bytes for row in node.rows(instances)) // 3
    free = [10 * size]
    monkeypatch.setattr(node.spool, "free_bytes", lambda: free[0] - size * len(set(kept_studies(node))))
    limits = RetentionLimits(keep_free_bytes=8 * size + 1)  # 7 are free, so two of three must go
    planned = [one.facts.study_instance_uid for one in retention(limits).plan() if one.goes]
    gone = [one.study_instance_uid for one in retention(limits).run()]
    assert planned == gone == ["1.2.826.0.1.1", "1.2.826.0.1.2"]
    assert kept_studies(node) == ["1.2.826.0.1.3"]


def in_study(uid: str) -> tuple[Dataset, ...]:
    """Return the images as those of another study."""
    images = examples.ct_volume()
    for number, image in enumerate(images):
        image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"
        image.SOPInstanceUID = f"{uid}.1.{number}"
    return images


def kept_studies(node: Site) -> list[str]:
    with node.database.read() as connection:
        uid = instances.c.study_instance_uid
        return list(connection.execute(select(uid).distinct().order_by(uid)).scalars())


# --- a study that comes again -------------------------------------------------------------------------------------


def test_the_same_images_again_are_a_new_arrival_and_nothing_is_sent_twice(
    node: Site, retention: Callable[..., Retention]
) -> None:
    node.run(IMAGES)
    sent, revision = archived(node), study(node).revision
    grow_old(node.database, node.spool, 91)
    assert [one.kind for one in retention().run()] == [KeptKind.IMAGES]
    kept = {key for row in node.rows(artifacts) for key in (row.object_key, row.preview_key) if key}
    assert files(node) == kept  # the results stay
    with node.database.write() as connection, pytest.raises(IllegalTransition, match="Send the study again"):
        actions.rerun_study(connection, UID, None, SOMEBODY, datetime.now(UTC))
    node.run(IMAGES)
    assert (study(node).revision, study(node).state) == (revision + 1, "REPORTED")
    assert (study(node).images_deleted_at, len(node.rows(instances))) == (None, len(IMAGES))
    assert archived(node) == sent
    assert {row.state for row in node.rows(deliveries)} == {"SENT"}
    assert [row.standing for row in node.rows(results)] == ["CURRENT"]


def test_a_part_of_the_images_again_is_not_analysed_as_if_it_were_all(
    node: Site, retention: Callable[..., Retention]
) -> None:
    node.run(IMAGES)
    sent = archived(node)
    grow_old(node.database, node.spool, 91)
    retention().run()
    node.receive(IMAGES[:2])
    grow_old(node.database, node.spool, 0.1)  # the sender has long been quiet
    node.sweep()
    node.settle()
    assert study(node).state == "NOT_ANALYSED"
    assert study(node).reason.startswith(f"{len(IMAGES) - 2} of the study's {len(IMAGES)} images were deleted here")
    assert archived(node) == sent
    assert [row.standing for row in node.rows(results)] == ["CURRENT"]
    node.run(IMAGES)  # all of it
    assert study(node).state == "REPORTED"
    assert archived(node) == sent


def test_images_that_come_again_under_another_patient_take_the_earlier_result_back(
    node: Site, retention: Callable[..., Retention]
) -> None:
    node.run(IMAGES)
    grow_old(node.database, node.spool, 91)
    retention().run()
    others = examples.ct_volume()
    for image in others:
        image.PatientID = "SOMEBODY-ELSE"
    node.run(others)
    standings = {row.standing for row in node.rows(results)}
    assert standings == {"WITHDRAWN", "CURRENT"}


# --- between the steps --------------------------------------------------------------------------------------------


def marked(node: Site, kind: KeptKind = KeptKind.IMAGES) -> steps.Deletion:
    with node.database.write() as connection:
        facts = facts_of(connection, [UID])[UID]
        found = steps.mark(connection, facts, kind, ("images_days = 90", SOMEBODY), datetime.now(UTC))
    assert found is not None
    return found


def test_an_image_that_comes_during_the_deletion_stops_it_and_is_kept(
    node: Site, retention: Callable[..., Retention]
) -> None:
    arrive(node)
    deletion = marked(node)
    with node.database.write() as connection:
        going = steps.next_files(connection, deletion, 3)
    assert going is not None
    assert all(node.spool.remove(key, 3600) for key in going)
    node.receive(IMAGES)  # all of it comes while three files are gone
    with node.database.read() as connection:
        (ended,) = deletions_of(connection, UID)
    assert ended.state is DeletionState.STOPPED
    assert all(node.spool.is_whole(row.object_key) for row in node.rows(instances))
    assert len(node.rows(instances)) == len(IMAGES)
    assert retention().run() == []
    with node.database.write() as connection:
        assert not steps.is_wanted(connection, deletion)
        assert steps.next_files(connection, deletion, 3) is None
        assert steps.shrink(connection, deletion, datetime.now(UTC))
    assert study(node).state == "RECEIVING"


def test_a_file_whose_bytes_were_stored_again_a_moment_ago_waits(
    node: Site, retention: Callable[..., Retention]
) -> None:
    arrive(node)
    key = node.rows(instances)[0].object_key
    assert node.spool.is_here(key)  # as a large object's part finds it that came again, whose row is yet to come
    assert retention().run() == []
    assert node.spool.is_whole(key)
    assert [row.state for row in node.rows(deletions)] == ["MARKED"]
    grow_old(node.database, node.spool, 0.1)
    assert len(retention().run()) == 1


def test_something_that_happens_between_the_look_and_the_mark_keeps_it(node: Site) -> None:
    arrive(node)
    with node.database.write() as connection:
        seen = facts_of(connection, [UID])[UID]
        connection.execute(update(studies).values(updated_at=datetime.now(UTC) - timedelta(days=2)))
        by = ("images_days = 90", SOMEBODY)
        assert steps.mark(connection, seen, KeptKind.IMAGES, by, datetime.now(UTC)) is None


def test_a_file_that_is_being_deleted_is_no_damage(node: Site) -> None:
    arrive(node)
    deletion = marked(node)
    with node.database.write() as connection:
        going = steps.next_files(connection, deletion, 3)
    assert going is not None
    assert all(node.spool.remove(key, 3600) for key in going)
    Scrub(node.database, node.spool, 1000.0, iter(range(0, 9999, 60)).__next__).run()
    assert (node.rows(damaged_objects), node.told("damaged")) == ([], [])


def test_a_backup_does_not_miss_what_is_being_deleted_or_was(node: Site, retention: Callable[..., Retention]) -> None:
    node.run(IMAGES)
    keys = [row.object_key for row in (*node.rows(instances), *node.rows(artifacts))]
    assert all(is_named(node.database, key) for key in keys)
    grow_old(node.database, node.spool, 401)
    marked(node)
    assert not any(is_named(node.database, key) for key in keys)
    retention().run()
    assert not any(is_named(node.database, key) for key in keys)
    assert list(named_now(node.database)) == []
    with node.database.read() as connection:
        assert connection.execute(text(NAMED_KEYS)).all() == []
