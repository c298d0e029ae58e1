"""Reviews by the API, on both databases: who may, what is refused, what is told, and that it is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.analysis.written import summarise
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import Destination, MediaType
from dicom_node.core.principal import NODE, UserRole
from dicom_node.index.database import Database
from dicom_node.index.decided.reviews import ClaimedReview, claim_review, give_review_up, put_off_review
from dicom_node.index.notices import Subscriber
from dicom_node.index.outbox.notifications import subscribe
from dicom_node.index.results import save_result
from dicom_node.index.tables import notifications, reviews
from dicom_node.people.keys import Keys
from dicom_node.roles.settings import SiteSettings
from tests.integration.test_api_history import Trail
from tests.support.api_client import Client, client_of, parts_over
from tests.support.results import analysis_examples as examples
from tests.support.results.arrivals import STUDY, arrive, claimed, cut_study, instance, outcome

RESULT = "ab" * 32
ADDRESS = f"/api/v1/results/{RESULT}"
PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
ACCEPTED = {"decision": "ACCEPTED"}
REJECTED = {"decision": "REJECTED", "reasons": ["FALSE_POSITIVE"]}
As = Callable[..., Client]


class ReviewTrail(Trail):
    """A trail that is told what was refused, too."""

    def note(self, event: AuditedEvent, key: str = "") -> None:
        assert not key
        self.events.append(event)


@pytest.fixture
def trail() -> Trail:
    return ReviewTrail()


@pytest.fixture
def image() -> str:
    """The SOP Instance UID of the one image, which is 280 columns wide and 300 rows high."""
    return str(instance("1").sop_instance_uid)


@pytest.fixture
def client(index: Database, tmp_path: Path, trail: Trail, image: str) -> As:
    """Return clients of somebody, by name and role, of a node with one result."""
    arrived = instance("1", attributes={"modality": "CR"})
    source = examples.radiograph(SOPInstanceUID=image, StudyInstanceUID=STUDY)
    (tmp_path / arrived.object_key).parent.mkdir(parents=True)
    source.save_as(tmp_path / arrived.object_key, enforce_file_format=True)
    arrive(index, arrived)
    cut_study(index)
    made = outcome(RESULT, at_s=70)
    with index.write() as connection:
        subscribe(connection, [Subscriber("hook")])
    job = claimed(index)
    with index.write() as connection:
        told = summarise(examples.radiograph_analysis(source)) | {"finished_at": made.summary["finished_at"]}
        assert save_result(connection, job, RESULT, replace(made, summary=told), [PACS])
    data = {"node": {"data_dir": tmp_path, "min_free_mb": 0}, "review": {"organization": "General Hospital"}}
    one = client_of(replace(parts_over(index, tmp_path), audit=trail, settings=SiteSettings.model_validate(data)))

    def as_somebody(name: str = "anna", role: UserRole = UserRole.REVIEWER) -> Client:
        secret, _ = Keys(index).add(name, [role], 1, NODE)
        return replace(one, headers={"Authorization": f"Bearer {secret}"})

    return as_somebody


def decide(client: Client, decision: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer = client.post(f"{ADDRESS}/review", json=decision)
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_reviewer_decides_and_everybody_sees_who_it_was(client: As, index: Database, trail: Trail) -> None:
    anna, bert, viewer = client(), client("bert"), client("vera", UserRole.VIEWER)
    assert anna.get("/api/v1/review-codes").json()["reasons"][0]["code"] == "FALSE_POSITIVE"
    lock = anna.post(f"{ADDRESS}/review/lock").json()
    assert lock["account"] == "key:anna"
    assert decide(bert, ACCEPTED, 409)["type"] == "/api/v1/problems/being-reviewed"
    assert anna.request("DELETE", f"/api/results/{RESULT}/review/lock").status_code == 204

    told = decide(anna, ACCEPTED)
    assert (told["decision"], told["state"], told["reviewer"], told["result"]) == (
        "ACCEPTED",
        "DECIDED",
        "key:anna",
        "",
    )
    assert decide(anna, ACCEPTED) == told
    refused = decide(bert, REJECTED, 409)
    assert refused["type"] == "/api/v1/problems/already-reviewed"
    assert "key:anna accepted this result on" in refused["detail"]
    assert viewer.get(f"{ADDRESS}/reviews").json() == [told]
    seen = viewer.get(ADDRESS).json()
    assert (seen["review_state"], seen["reviewer"], seen["reviewed_at"]) == ("ACCEPTED", "key:anna", told["decided_at"])
    assert [one["text"] for one in viewer.get(f"/api/v1/studies/{STUDY}/timeline").json()].count(
        "key:anna accepted the result."
    ) == 1  # fmt: skip
    with index.read() as connection:
        bodies = [json.loads(row.body) for row in connection.execute(select(notifications))]
    (event,) = (one for one in bodies if one["type"] == "result.reviewed")
    assert (event["data"]["decision"], event["data"]["result"]) == ("ACCEPTED", RESULT)
    assert {one.study_instance_uid for one in trail.events if one.act is AuditedAct.REVIEW} == {STUDY}


def test_a_reviewer_sees_why_a_report_cannot_be_made_and_decides_again(client: As, index: Database) -> None:
    anna, why = client(), "2 of the images are not there any more."
    decide(anna, ACCEPTED)
    claim = a_claim(index)
    with index.write() as connection:
        put_off_review(connection, claim, why, datetime.now(UTC) - timedelta(hours=1))
    seen = anna.get(ADDRESS).json()
    assert (seen["review_state"], seen["review_waits"], seen["review_failed"]) == ("ACCEPTED", why, "")
    (group,) = reviews_that_wait(anna)
    assert (group["state"], group["cause"], group["studies"]) == ("DECIDED", why, [STUDY])

    with index.write() as connection:
        give_review_up(connection, claim, why, datetime.now(UTC))
    (seen,) = anna.get(f"/api/v1/studies/{STUDY}").json()["results"]
    assert (seen["review_state"], seen["review_waits"], seen["review_failed"]) == ("UNREVIEWED", "", why)
    assert [(one["state"], one["note"]) for one in anna.get(f"{ADDRESS}/reviews").json()] == [("FAILED", why)]
    assert [(one["state"], one["cause"]) for one in reviews_that_wait(anna)] == [("FAILED", why)]
    assert decide(anna, ACCEPTED)["state"] == "DECIDED"
    assert [one["state"] for one in reviews_that_wait(anna)] == ["DECIDED"]


def a_claim(index: Database) -> ClaimedReview:
    with index.write() as connection:
        claim = claim_review(connection, "here", datetime.now(UTC), 60.0)
    assert claim is not None
    return claim


def reviews_that_wait(client: Client) -> list[dict[str, Any]]:
    return [one for one in client.get("/api/v1/waiting").json()["waiting"] if one["kind"] == "REVIEW"]


def test_only_reviewers_decide_and_only_where_it_is_written_down(client: As, index: Database, trail: Trail) -> None:
    for role in (UserRole.VIEWER, UserRole.OPERATOR, UserRole.ADMIN):
        decide(client(f"a-{role}", role), ACCEPTED, 403)
    anna = client()
    trail.is_broken = True
    decide(anna, ACCEPTED, 503)
    trail.is_broken = False
    with index.read() as connection:
        assert connection.execute(select(reviews)).all() == []


def outline(image: str, *points: tuple[float, float]) -> dict[str, Any]:
    return {"sop_instance_uid": image, "points_xy_px": points or [(1, 1), (20, 1), (20, 30)]}


def test_what_cannot_be_is_refused_and_nothing_of_it_is_kept(client: As, index: Database, image: str) -> None:
    anna = client()
    changes: list[dict[str, Any]] = [
        {"key": "pneumonia", "nothing": 1},
        {"key": "no-such"},
        {"key": "pneumonia", "removed": True, "presence": "ABSENT"},
        {"key": "pneumonia", "measurements": [{"place": 0, "value": 1.0, "unit": "mL"}]},
        {"key": "pneumonia", "text": "x" * 501},
        {"key": "effusion", "region": outline("1.2.3")},
        {"key": "effusion", "region": outline(image, (1, 1), (281, 1), (5, 5))},
        {"key": "effusion", "region": outline(image, (1, 1), (2, 2), (1, 1))},
        {"key": "effusion", "region": outline(image, *[(float(n % 200), n / 100) for n in range(1025)])},
        {"key": "effusion", "region": outline(image) | {"frame_number": 2}},
    ]
    for change in changes:
        decide(anna, {"decision": "MODIFIED", "reasons": ["WRONG_REGION"], "findings": [change]}, 422)
    unspeakable = {"code": {"value": "a\\b", "scheme": "99X", "meaning": "Spot"}}
    added: list[dict[str, Any]] = [{}, {"finding": "no-such"}, unspeakable]
    for one in added:
        site = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
        decide(anna, {"decision": "MODIFIED", "reasons": ["FALSE_NEGATIVE"], "added": [one | {"site": site}]}, 422)
    for said in ({"reasons": ["OTHER"]}, {"text": "Yes, but."}, {"findings": [{"key": "edema", "text": "Clearly."}]}):
        assert "changes nothing" in decide(anna, {"decision": "CONFIRMED", **said}, 422)["detail"]
    not_a_number = '{"decision": "MODIFIED", "reasons": ["WRONG_MEASUREMENT"], "findings": [{"key": "pneumonia", '
    not_a_number += '"measurements": [{"place": 0, "value": NaN, "unit": "mL"}]}]}'
    answer = anna.post(f"{ADDRESS}/review", content=not_a_number, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}
    decide(anna, {"decision": "REJECTED"}, 422)
    assert anna.get(f"{ADDRESS}/reviews").json() == []


def test_a_modified_result_keeps_what_the_model_said_beside_it(client: As, image: str) -> None:
    site = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
    told = decide(
        client(),
        {
            "decision": "MODIFIED",
            "reasons": ["WRONG_REGION", "FALSE_NEGATIVE"],
            "findings": [
                {"key": "effusion", "region": outline(image)},
                {"key": "edema", "presence": "PRESENT", "text": "Clearly there."},
            ],
            "added": [{"finding": "atelectasis", "site": site}],
        },
    )
    after = {one["finding"]["key"]: one for one in told["findings"]}
    assert after["effusion"]["finding"]["region"]["points_xy_px"][-1] == [1, 1]
    assert after["edema"]["said_by_model"]["presence"] == "UNDETERMINED"
    assert after["edema"]["text"] == "Clearly there."
    assert after["added-1"]["said_by_model"] is None
    assert list(after) == ["pneumonia", "effusion", "pneumothorax", "edema", "added-1"]


def test_a_decision_holds_as_many_corners_as_the_node_takes_of_each_outline(client: As, image: str) -> None:
    corners = [(100 + n % 32 + 0.25, 100 + n / 32) for n in range(1023)]
    changed = [{"key": key, "region": outline(image, *corners)} for key in ("pneumonia", "effusion", "edema")]
    told = decide(client(), {"decision": "MODIFIED", "reasons": ["WRONG_REGION"], "findings": changed})
    assert len(told["findings"][0]["finding"]["region"]["points_xy_px"]) == 1024


def test_a_rejected_result_is_told_so(client: As) -> None:
    anna = client()
    assert decide(anna, REJECTED)["state"] == "DONE"
    seen = anna.get(ADDRESS).json()
    assert (seen["standing"], seen["review_state"]) == ("REJECTED", "REJECTED")
    assert seen["standing_reason"].startswith("Rejected in review by key:anna.")
