"""Decisions of people on results, with the real parts step by step: decided, told anew or taken back, exactly once."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from dicom_node.analysis.written import MARK, REVIEWED_MARK
from dicom_node.core import codes
from dicom_node.core.assessment.review import ReviewReason
from dicom_node.core.entities import Presence, Region, ReviewState
from dicom_node.core.errors import (
    AlreadyReviewed,
    BeingReviewed,
    InferenceError,
    NotReviewable,
    ReviewRefused,
    SpoolUnavailable,
)
from dicom_node.core.principal import Principal, UserRole, key_at_provider
from dicom_node.headers.image_size import image_size
from dicom_node.index.decided import actions
from dicom_node.index.results import kept_keys
from dicom_node.index.tables import artifacts, damaged_objects, deliveries, events, instances, jobs, results, reviews
from dicom_node.index.views.kept_objects import objects_of
from dicom_node.index.views.study import result
from dicom_node.index.views.worklist.filter import ReviewWanted, WorklistFilter
from dicom_node.index.views.worklist.studies import RouteLine, worklist
from dicom_node.jobs import reviewed as making
from dicom_node.people.accounts import Accounts
from dicom_node.people.review.changes import AddedFinding, ChangedFinding, ChangedMeasurement
from dicom_node.people.review.reviews import AskedDecision, ReviewRules, Reviews
from tests.integration.step_by_step_node import Site, site
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

ANNA = Principal("anna", frozenset({UserRole.REVIEWER}))
BERT = Principal("bert", frozenset({UserRole.REVIEWER}))
ACCEPTED = AskedDecision(state=ReviewState.ACCEPTED)
REJECTED = AskedDecision(
    state=ReviewState.REJECTED, reasons=(ReviewReason.UNSUITABLE_IMAGES,), text="Motion in every slice."
)
MADE_ANEW = {"SR", "FHIR"}
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Reviewed:
    """A site whose study has been analysed, and the reviews of it."""

    def __init__(self, one: Site, images: Sequence[Dataset], there: Path) -> None:
        self.one, self.images, self.there = one, images, there
        self.job_key = one.rows(results)[0].job_key

    def reviews(self, **rules: Any) -> Reviews:
        def size(key: str) -> Any:
            return image_size(self.one.spool.path(key))

        return Reviews(self.one.database, ReviewRules(organization="General Hospital", **rules), size)

    def make(self) -> None:
        """Let the job runner make what waits, and the outbox send it."""
        self.one.analyse()
        self.one.deliver()

    def rerun(self) -> None:
        with self.one.database.write() as connection:
            actions.rerun_study(connection, str(self.images[0].StudyInstanceUID), None, SOMEBODY, datetime.now(UTC))

    def results(self) -> list[Any]:
        return sorted(self.one.rows(results), key=lambda row: row.sequence)

    def reports(self) -> list[Dataset]:
        there = [dcmread(path) for path in sorted(self.there.glob("*.dcm"))]
        return sorted((one for one in there if one.Modality == "SR"), key=lambda one: one.InstanceNumber)

    def listed(self, review: ReviewWanted) -> list[RouteLine]:
        """Return the lines of the worklist's routes whose results wait for a review, or have had one."""
        with self.one.database.read() as connection:
            return [route for line in worklist(connection, 9, WorklistFilter(review=review)) for route in line.routes]

    def told(self) -> list[str]:
        return [row.text for row in self.one.rows(events) if row.kind == "reviewed"]


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[Dataset]]:
    """A site whose study has been analysed and delivered, to be copied: every test goes on from there."""
    folder, images = tmp_path_factory.mktemp("morning"), small_chest_ct()[0]
    with site(folder / "node", [files(folder)]) as one:
        one.run(images)
    (folder / "node" / "work").rmdir()
    return folder, images


@pytest.fixture
def analysed(morning: tuple[Path, Sequence[Dataset]], tmp_path: Path) -> Iterator[Reviewed]:
    folder, images = morning
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with site(tmp_path / "node", [files(tmp_path)]) as one:
        yield Reviewed(one, images, tmp_path / "files")


def files(folder: Path) -> dict[str, str]:
    return {"name": "files", "kind": "folder", "path": str(folder / "files")}


def of_result(one: Reviewed, job_key: str) -> list[str]:
    return sorted(row.kind for row in one.one.rows(artifacts) if row.job_key == job_key)


# --- accepted and modified ---------------------------------------------------------------------------------------


def test_an_accepted_result_is_followed_by_one_that_tells_it_and_stays_itself(analysed: Reviewed) -> None:
    Accounts(analysed.one.database).add("anna", [UserRole.REVIEWER], None)
    Accounts(analysed.one.database).set_named("anna", "Weiss^Anna", "PRV-1")
    before = of_result(analysed, analysed.job_key)
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()

    model, successor = analysed.results()
    assert (model.standing, model.review_state, model.review_id) == ("SUPERSEDED", "ACCEPTED", None)
    assert (successor.standing, successor.review_state, successor.sequence) == ("CURRENT", "ACCEPTED", 2)
    assert (model.summary["mark"], successor.summary["mark"]) == (MARK, REVIEWED_MARK)
    assert [one["key"] for one in successor.summary["findings"]] == [one["key"] for one in model.summary["findings"]]
    assert of_result(analysed, model.job_key) == before
    assert set(of_result(analysed, successor.job_key)) == MADE_ANEW
    first, second = analysed.reports()
    (named,) = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert {row.state for row in analysed.one.rows(deliveries)} == {"SENT"}
    (review,) = analysed.one.rows(reviews)
    assert (review.state, review.result_key, review.reviewer_name) == ("DONE", successor.job_key, "Weiss^Anna")
    assert (review.reviewer_organization, review.reviewer_identifier) == ("General Hospital", "PRV-1")
    with analysed.one.database.read() as connection:
        views = [result(connection, row.job_key) for row in analysed.results()]
    assert [(one.reviewer, one.successor, one.review_of) for one in views] == [
        ("Weiss^Anna", successor.job_key, ""), ("Weiss^Anna", "", model.job_key),
    ]  # fmt: skip


def test_what_was_reviewed_is_read_from_the_node_beside_what_a_person_says_of_it(analysed: Reviewed) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()
    with analysed.one.database.read() as connection:
        (row,) = connection.execute(select(results.c.study_instance_uid).distinct())
        kinds = [one.modality for one in objects_of(connection, [row[0]])[row[0]] if not one.is_received]

    assert (kinds.count("SR"), kinds.count("SEG")) == (2, 1)
    assert "OT" in kinds, "its pictures"


def test_the_decision_is_told_once_in_the_timeline_and_by_whom(analysed: Reviewed) -> None:
    number = analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    assert analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA) == number
    analysed.make()
    assert analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA) == number
    assert analysed.told() == [
        "anna accepted the result.", "The result is verified: accepted by anna. What the model said stays.",
    ]  # fmt: skip
    assert [row.actor for row in analysed.one.rows(events) if row.kind == "reviewed"] == ["anna", "node"]


def test_the_worklist_says_who_has_reviewed_and_no_more_that_a_review_is_needed(analysed: Reviewed) -> None:
    (waits,) = analysed.listed(ReviewWanted.NEEDED)
    assert (waits.review, waits.reviewed_by, analysed.listed(ReviewWanted.DONE)) == ("UNREVIEWED", "", [])
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    (decided,) = analysed.listed(ReviewWanted.DONE)
    analysed.make()
    (told,) = analysed.listed(ReviewWanted.DONE)
    assert [one.result for one in (decided, told)] == [row.job_key for row in analysed.results()]
    assert [(one.review, one.reviewed_by) for one in (decided, told)] == [("ACCEPTED", "anna")] * 2
    assert analysed.listed(ReviewWanted.NEEDED) == []


def test_a_modified_result_tells_what_the_reviewer_says(analysed: Reviewed) -> None:
    first, second, *_ = analysed.results()[0].summary["findings"]
    uid = str(analysed.images[0].SOPInstanceUID)
    unit = first["measurements"][0]["unit"]["value"]
    asked = AskedDecision(
        state=ReviewState.MODIFIED,
        reasons=(ReviewReason.WRONG_MEASUREMENT, ReviewReason.FALSE_NEGATIVE),
        text="Measured by hand.",
        changes=(
            ChangedFinding(key=first["key"], measurements=(ChangedMeasurement(place=0, value=12.5, unit=unit),)),
            ChangedFinding(key=second["key"], removed=True),
        ),
        added=(
            AddedFinding(
                code=codes.term_code("findings", "pneumothorax"), site=codes.LUNG, laterality=codes.LEFT,
                region=Region(sop_instance_uid=uid, points_xy_px=((1.0, 1.0), (5.0, 1.0), (5.0, 6.0))),
            ),
        ),
    )  # fmt: skip
    analysed.reviews().decide(analysed.job_key, asked, ANNA)
    analysed.make()

    (review,) = analysed.one.rows(reviews)
    assert [(one["removed"], one["said_by_model"] is None) for one in review.findings][:2] == [
        (False, False), (True, False),
    ]  # fmt: skip
    assert review.findings[0]["said_by_model"]["measurements"] == first["measurements"]
    told = {one["key"]: one for one in analysed.results()[1].summary["findings"]}
    assert told[first["key"]]["measurements"][0]["value"] == 12.5
    assert told["added-1"]["presence"] == Presence.PRESENT
    assert told["added-1"]["region"]["points_xy_px"] == [[1.0, 1.0], [5.0, 1.0], [5.0, 6.0], [1.0, 1.0]]
    assert analysed.results()[0].review_state == "MODIFIED"


@pytest.mark.parametrize("times", [1, 2])
def test_a_rerun_without_change_leaves_the_reviewed_result_standing(analysed: Reviewed, times: int) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()
    for _ in range(times):
        analysed.rerun()
        analysed.make()
    assert [row.standing for row in analysed.results()] == ["SUPERSEDED", "CURRENT"]
    assert len(analysed.one.rows(artifacts)) == sum(len(of_result(analysed, row.job_key)) for row in analysed.results())
    assert {row.state for row in analysed.one.rows(deliveries)} == {"SENT"}


@pytest.mark.parametrize("of", [0, 1], ids=["the model's", "the reviewed"])
def test_lost_files_of_a_reviewed_result_and_of_the_one_before_are_made_again(analysed: Reviewed, of: int) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()
    keys = kept_files(analysed, analysed.results()[of].job_key)
    before = {key: analysed.one.spool.path(key).read_bytes() for key in keys}
    for key in keys:
        analysed.one.spool.path(key).unlink()
    analysed.rerun()
    analysed.make()
    assert {key: analysed.one.spool.path(key).read_bytes() for key in keys} == before
    assert len(analysed.results()) == 2
    assert len(analysed.reports()) == 2


def test_what_cannot_be_made_again_of_a_reviewed_result_is_noted_as_damaged(analysed: Reviewed) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()
    keys = kept_files(analysed, analysed.results()[1].job_key)
    for key in keys:
        analysed.one.spool.path(key).unlink()
    with analysed.one.database.write() as connection:  # a name that no decision has any more
        connection.execute(update(reviews).values(reviewer_name="Other^Name"))
    analysed.rerun()
    analysed.make()
    assert {row.object_key for row in analysed.one.rows(damaged_objects)}
    assert {row.object_key for row in analysed.one.rows(damaged_objects)} <= set(keys)
    assert [row.standing for row in analysed.results()] == ["SUPERSEDED", "CURRENT"]


def kept_files(one: Reviewed, job_key: str) -> list[str]:
    with one.one.database.read() as connection:
        return kept_keys(connection, job_key)


def test_new_images_make_a_result_that_nobody_has_reviewed(analysed: Reviewed) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()
    analysed.one.run([_another(analysed.images)])
    assert [(row.standing, row.review_state) for row in analysed.results()] == [
        ("SUPERSEDED", "ACCEPTED"), ("SUPERSEDED", "ACCEPTED"), ("CURRENT", "UNREVIEWED"),
    ]  # fmt: skip


def _another(images: Sequence[Dataset]) -> Dataset:
    late = copy.deepcopy(images[-1])
    late.SOPInstanceUID = f"{images[-1].SOPInstanceUID}.9"
    late.file_meta.MediaStorageSOPInstanceUID = late.SOPInstanceUID
    late.ImagePositionPatient = [*late.ImagePositionPatient[:2], float(late.ImagePositionPatient[2]) + 2.5]
    return late


# --- rejected ----------------------------------------------------------------------------------------------------


def test_a_rejected_result_is_taken_back_and_not_made_again(analysed: Reviewed) -> None:
    Accounts(analysed.one.database).add("anna", [UserRole.REVIEWER], None)
    Accounts(analysed.one.database).set_named("anna", "Weiss^Anna", "PRV-1")
    analysed.reviews().decide(analysed.job_key, REJECTED, ANNA)
    analysed.make()
    (row,) = analysed.results()
    assert (row.standing, row.review_state) == ("REJECTED", "REJECTED")
    assert [(one.review, one.reviewed_by) for one in analysed.listed(ReviewWanted.DONE)] == [("REJECTED", "Weiss^Anna")]
    assert row.standing_reason == (
        "Rejected in review by Anna Weiss. The images do not allow this judgement. Motion in every slice."
    )
    first, told = analysed.reports()
    assert "WITHDRAWN" in " ".join(str(item.get("TextValue", "")) for item in told.ContentSequence)
    assert told.PredecessorDocumentsSequence
    analysed.rerun()
    analysed.make()
    assert [row.standing for row in analysed.results()] == ["REJECTED"]
    assert len(analysed.reports()) == 2
    assert first.SOPInstanceUID != told.SOPInstanceUID


# --- one truth ---------------------------------------------------------------------------------------------------


def test_the_second_of_two_is_told_who_decided_what(analysed: Reviewed) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    with pytest.raises(AlreadyReviewed, match="anna accepted this result on "):
        analysed.reviews().decide(analysed.job_key, REJECTED, BERT)
    with pytest.raises(AlreadyReviewed):
        analysed.reviews().decide(analysed.job_key, REJECTED, ANNA)
    analysed.make()
    with pytest.raises(AlreadyReviewed, match="tells a person's review"):
        analysed.reviews().decide(analysed.results()[1].job_key, REJECTED, BERT)
    assert len(analysed.one.rows(reviews)) == 1


def test_who_reviews_keeps_others_from_deciding_until_they_let_go(analysed: Reviewed) -> None:
    lock = analysed.reviews().lock(analysed.job_key, ANNA)
    assert analysed.reviews().lock(analysed.job_key, ANNA).until >= lock.until
    for tried in (
        lambda: analysed.reviews().lock(analysed.job_key, BERT),
        lambda: analysed.reviews().decide(analysed.job_key, ACCEPTED, BERT),
    ):
        with pytest.raises(BeingReviewed, match="anna is reviewing"):
            tried()
    analysed.reviews().release(analysed.job_key, BERT)  # it is not his
    with pytest.raises(BeingReviewed):
        analysed.reviews().decide(analysed.job_key, ACCEPTED, BERT)
    analysed.reviews().release(analysed.job_key, ANNA)
    analysed.reviews(lock=timedelta(0)).lock(analysed.job_key, ANNA)  # is over at once
    analysed.reviews().decide(analysed.job_key, ACCEPTED, BERT)
    assert analysed.one.rows(reviews)[0].reviewer_account == "bert"


def test_a_late_image_makes_the_decision_wait_for_the_new_result(analysed: Reviewed) -> None:
    analysed.reviews().lock(analysed.job_key, ANNA)
    analysed.one.receive([_another(analysed.images)])
    with pytest.raises(NotReviewable, match="has changed since"):
        analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.one.run([])
    with pytest.raises(NotReviewable, match="SUPERSEDED"):
        analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.reviews().decide(analysed.results()[1].job_key, ACCEPTED, ANNA)


def test_a_decision_whose_result_was_replaced_before_it_was_told_falls(analysed: Reviewed) -> None:
    """The process died after the decision; meanwhile images came and were analysed elsewhere."""
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    with analysed.one.database.write() as connection:
        connection.execute(update(reviews).values(lease_until=datetime.now(UTC) + timedelta(seconds=30), attempts=1))
    analysed.one.run([_another(analysed.images)])
    with analysed.one.database.write() as connection:
        connection.execute(update(reviews).values(lease_until=None))
    analysed.make()
    assert [row.standing for row in analysed.results()] == ["SUPERSEDED", "CURRENT"]
    assert [row.review_state for row in analysed.results()] == ["UNREVIEWED", "UNREVIEWED"]
    assert analysed.one.rows(reviews)[0].state == "FALLEN"
    assert analysed.told()[-1].startswith("The review is told by no report.")


def test_a_decision_that_can_never_be_told_falls_with_its_result(analysed: Reviewed) -> None:
    """Its images are gone, so that nothing can be made; nobody tries for ever what holds no more."""
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    study = str(analysed.images[0].StudyInstanceUID)
    with analysed.one.database.write() as connection:
        actions.withdraw_study(connection, study, ("The wrong patient.", None), SOMEBODY, datetime.now(UTC))
    for image in analysed.one.rows(instances):
        analysed.one.spool.path(image.object_key).unlink(missing_ok=True)
    analysed.make()
    assert analysed.one.rows(reviews)[0].state == "FALLEN"
    assert "WITHDRAWN: The wrong patient." in analysed.one.rows(reviews)[0].note


# --- killed ------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here, as kill -9 does: nothing after it is done."""


@pytest.mark.parametrize("step", ["performed_by", "require_own", "kept", "save_reviewed_result"])
def test_what_is_killed_in_the_making_is_made_once(
    analysed: Reviewed, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    real = getattr(making, step)

    def killed(*args: Any) -> Any:
        real(*args) if step != "save_reviewed_result" else None
        raise Killed

    monkeypatch.setattr(making, step, killed)
    with pytest.raises(Killed):
        analysed.one.analyse()
    monkeypatch.setattr(making, step, real)
    assert [row.standing for row in analysed.results()] == ["CURRENT"]
    with analysed.one.database.write() as connection:  # the lease of the dead runs out
        connection.execute(update(reviews).values(lease_until=LONG_AGO))
    analysed.make()
    analysed.make()
    assert [row.standing for row in analysed.results()] == ["SUPERSEDED", "CURRENT"]
    assert len(analysed.reports()) == 2
    assert [(row.state, row.attempts) for row in analysed.one.rows(reviews)] == [("DONE", 2)]


def test_what_cannot_be_made_waits_and_says_why(analysed: Reviewed, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise InferenceError("The worker process died.")

    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    with monkeypatch.context() as broken:
        broken.setattr(making, "performed_by", fails)
        analysed.one.analyse()
    (review,) = analysed.one.rows(reviews)
    assert (review.state, review.note) == ("DECIDED", "The worker process died.")
    assert analysed.told()[-1].endswith("cannot be made yet and is tried again: The worker process died.")
    with analysed.one.database.write() as connection:
        connection.execute(update(reviews).values(not_before=LONG_AGO))
    analysed.make()
    assert [(row.state, row.note) for row in analysed.one.rows(reviews)] == [("DONE", "")]


def fails_for_ever(analysed: Reviewed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt fail, each as soon as the one before has, until nobody tries any more."""

    def fails(*_: Any) -> Any:
        raise InferenceError("An image is damaged.")

    with monkeypatch.context() as broken:
        broken.setattr(making, "performed_by", fails)
        for _ in range(making.MOST_ATTEMPTS + 2):
            analysed.one.analyse()
            with analysed.one.database.write() as connection:
                connection.execute(update(reviews).values(not_before=LONG_AGO))


def test_what_can_never_be_made_is_given_up_and_can_be_decided_again(
    analysed: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    fails_for_ever(analysed, monkeypatch)
    (review,) = analysed.one.rows(reviews)
    assert (review.state, review.note, review.attempts) == ("FAILED", "An image is damaged.", making.MOST_ATTEMPTS)
    assert [(row.standing, row.review_state) for row in analysed.results()] == [("CURRENT", "UNREVIEWED")]
    assert analysed.told()[-1].endswith("The result is unreviewed again. An image is damaged.")
    (needed,) = analysed.listed(ReviewWanted.NEEDED)
    assert needed.reviewed_by == ""

    assert analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA) != first
    analysed.make()
    assert [row.state for row in analysed.one.rows(reviews)] == ["FAILED", "DONE"]
    assert [(row.standing, row.review_state) for row in analysed.results()] == [
        ("SUPERSEDED", "ACCEPTED"), ("CURRENT", "ACCEPTED"),
    ]  # fmt: skip
    assert len(analysed.reports()) == 2


def test_what_kills_the_node_at_every_attempt_is_given_up(analysed: Reviewed) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    with analysed.one.database.write() as connection:
        connection.execute(update(reviews).values(attempts=making.MOST_ATTEMPTS, lease_until=LONG_AGO))
    analysed.make()
    (review,) = analysed.one.rows(reviews)
    assert (review.state, review.note) == ("FAILED", "The node died every time that it was tried; see its log.")
    assert analysed.results()[0].review_state == "UNREVIEWED"


def test_a_full_disk_costs_a_decision_no_attempt(analysed: Reviewed, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> Any:
        raise SpoolUnavailable("The disk is full.")

    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    with monkeypatch.context() as broken:
        broken.setattr(making, "kept", no_room)
        with pytest.raises(SpoolUnavailable):
            analysed.one.analyse()
    (review,) = analysed.one.rows(reviews)
    assert (review.state, review.note, review.attempts) == ("DECIDED", "The disk is full.", 0)
    assert review.not_before > review.decided_at, "it does not try without pause"


# --- the second reader -------------------------------------------------------------------------------------------


def test_a_decision_waits_for_another_person(analysed: Reviewed) -> None:
    two = analysed.reviews(second_reader=True)
    two.decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()
    assert [row.review_state for row in analysed.results()] == ["UNREVIEWED"]
    assert [(one.review, one.reviewed_by) for one in analysed.listed(ReviewWanted.NEEDED)] == [("UNREVIEWED", "")]
    with pytest.raises(NotReviewable, match="another person"):
        two.confirm(analysed.job_key, ANNA)
    number = two.confirm(analysed.job_key, BERT)
    assert two.confirm(analysed.job_key, BERT) == number
    analysed.make()
    assert [row.review_state for row in analysed.results()] == ["ACCEPTED", "ACCEPTED"]
    assert analysed.one.rows(reviews)[0].second_account == "bert"


def _vouched(name: str, subject: str) -> Principal:
    """Somebody who signed in by OpenID, where names may change and be shared."""
    key = key_at_provider("https://sso.example", subject)
    return Principal(f"{name} (sso.example)", frozenset({UserRole.REVIEWER}), key)


def test_who_is_called_otherwise_by_the_provider_is_no_second_reader(analysed: Reviewed) -> None:
    two = analysed.reviews(second_reader=True)
    number = two.decide(analysed.job_key, ACCEPTED, _vouched("anna", "17"))
    assert two.decide(analysed.job_key, ACCEPTED, _vouched("Anna Weiss", "17")) == number
    with pytest.raises(NotReviewable, match="another person"):
        two.confirm(analysed.job_key, _vouched("Anna Weiss", "17"))
    assert two.confirm(analysed.job_key, _vouched("anna", "18")) == number, "another person of that name"
    assert two.confirm(analysed.job_key, _vouched("Anna Maria", "18")) == number


def test_two_of_one_name_do_not_share_a_lock(analysed: Reviewed) -> None:
    one = analysed.reviews()
    one.lock(analysed.job_key, _vouched("anna", "17"))
    one.release(analysed.job_key, _vouched("anna", "18"))
    for refused in (one.lock, lambda key, who: one.decide(key, ACCEPTED, who)):
        with pytest.raises(BeingReviewed):
            refused(analysed.job_key, _vouched("anna", "18"))
    one.release(analysed.job_key, _vouched("Anna Weiss", "17"))
    one.lock(analysed.job_key, _vouched("anna", "18"))


def test_who_decided_before_people_were_told_apart_is_known_by_the_name(analysed: Reviewed) -> None:
    two = analysed.reviews(second_reader=True)
    two.decide(analysed.job_key, ACCEPTED, _vouched("anna", "17"))
    with analysed.one.database.write() as connection:
        connection.execute(update(reviews).values(reviewer_identity=""))
    with pytest.raises(NotReviewable, match="another person"):
        two.confirm(analysed.job_key, _vouched("anna", "17"))
    two.confirm(analysed.job_key, _vouched("bert", "18"))


def test_an_objection_makes_the_result_unreviewed_again(analysed: Reviewed) -> None:
    two = analysed.reviews(second_reader=True)
    two.decide(analysed.job_key, REJECTED, ANNA)
    with pytest.raises(ReviewRefused, match="why you object"):
        two.object_to(analysed.job_key, " ", BERT)
    two.object_to(analysed.job_key, "The images are good enough.", BERT)
    analysed.make()
    assert [(row.standing, row.review_state) for row in analysed.results()] == [("CURRENT", "UNREVIEWED")]
    assert [row.state for row in analysed.one.rows(reviews)] == ["FALLEN"]
    two.decide(analysed.job_key, ACCEPTED, BERT)
    two.confirm(analysed.job_key, ANNA)
    assert [row.state for row in analysed.one.rows(reviews)] == ["FALLEN", "DECIDED"]


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": ReviewState.REJECTED, "reasons": (), "changes": ()}, "A reason is needed"),
        ({"state": ReviewState.REJECTED, "reasons": (ReviewReason.OTHER,), "changes": ()}, "needs a text"),
        ({"reasons": ()}, "A reason is needed"),
        ({"changes": ()}, "Nothing is changed"),
        ({"changes": (ChangedFinding(key="no-such"),)}, "no finding 'no-such'"),
        ({"state": ReviewState.UNREVIEWED}, "accepted, modified or rejected"),
        ({"state": ReviewState.ACCEPTED}, "MODIFIED alone"),
        ({"text": "\x07"}, "nobody can read"),
    ],
)
def test_a_decision_that_cannot_be_is_refused(analysed: Reviewed, changes: dict[str, Any], why: str) -> None:
    said = {
        "state": ReviewState.MODIFIED, "reasons": (ReviewReason.WRONG_WORDING,),
        "changes": (ChangedFinding(key="left-lung", text="Better."),),
    }  # fmt: skip
    with pytest.raises(ReviewRefused, match=why):
        analysed.reviews().decide(analysed.job_key, AskedDecision(**(said | changes)), ANNA)
    assert analysed.one.rows(reviews) == []


def test_no_volume_is_below_nothing_and_an_attenuation_may_be(analysed: Reviewed) -> None:
    (first, *_) = [one for one in analysed.results()[0].summary["findings"] if one["measurements"]]
    units = [one["unit"]["value"] for one in first["measurements"]]
    assert {"ml", "[hnsf'U]"} <= set(units)

    def decide(unit: str) -> int:
        changed = ChangedMeasurement(place=units.index(unit), value=-700.0, unit=unit)
        changes = (ChangedFinding(key=first["key"], measurements=(changed,)),)
        reasons = (ReviewReason.WRONG_MEASUREMENT,)
        asked = AskedDecision(state=ReviewState.MODIFIED, reasons=reasons, changes=changes)
        return analysed.reviews().decide(analysed.job_key, asked, ANNA)

    with pytest.raises(ReviewRefused, match="cannot be below 0"):
        decide("ml")
    decide("[hnsf'U]")


def test_states_of_jobs_are_left_alone_by_reviews(analysed: Reviewed) -> None:
    analysed.reviews().decide(analysed.job_key, ACCEPTED, ANNA)
    analysed.make()
    with analysed.one.database.read() as connection:
        (job,) = connection.execute(select(jobs)).all()
    assert (job.state, job.job_key, job.attempts) == ("DONE", analysed.results()[1].job_key, 1)
