"""Which series of a real mixture the shipped lung model gets, and what is told of every other candidate."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dicom_node.core.entities import Instance, InstanceRole, Route, SendingPeer, Series, Study, StudyState
from dicom_node.core.series.routing import RouteDecision, decide
from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
CARD = load_card(SHIPPED_MODELS / "ct-lung-density")
ROUTE = Route(name="chest", model=CARD.name, destinations=(), when=({"modality": "CT"},))

CT = {"modality": "CT", "body_part_examined": "CHEST", "slice_thickness": "5"}
SERIES = {
    "scout": (2, {**CT, "image_type": "ORIGINAL\\PRIMARY\\LOCALIZER"}),
    "axial": (60, {**CT, "image_type": "ORIGINAL\\PRIMARY\\AXIAL"}),
    "coronal": (220, {**CT, "image_type": "DERIVED\\SECONDARY\\REFORMATTED"}),
    "head": (40, {**CT, "image_type": "ORIGINAL\\PRIMARY\\AXIAL", "body_part_examined": "HEAD"}),
    "dose": (1, {"modality": "SR"}),
}


def series(name: str) -> Series:
    count, attributes = SERIES[name]
    return Series(series_instance_uid=name, instances=tuple(_instance(name, n, attributes) for n in range(count)))


def _instance(name: str, number: int, attributes: dict[str, str]) -> Instance:
    return Instance(
        sop_instance_uid=f"{name}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid="1.2",
        series_instance_uid=name,
        sha256="0" * 64,
        size_bytes=1,
        object_key=f"{name}.{number}",
        role=InstanceRole.SOURCE,
        attributes=attributes,
        received_at=NOW,
        sender=SendingPeer("CT1", "AINODE", "10.1.2.3"),
    )


def decided(*names: str) -> RouteDecision:
    study = Study(
        study_instance_uid="1.2",
        revision=1,
        state=StudyState.COMPLETE,
        series=tuple(map(series, names)),
        first_received_at=NOW,
        last_received_at=NOW,
    )
    return decide(study, ROUTE, CARD.accepts, CARD.rank)


@pytest.mark.parametrize("order", [list(SERIES), list(SERIES)[::-1]])
def test_the_original_axial_series_is_chosen_before_larger_reformats(order: list[str]) -> None:
    decision = decided(*order)

    assert decision.chosen == "axial"
    assert [one.series_instance_uid for one in decision.candidates] == ["axial", "coronal", "scout", "head", "dose"]


def test_every_candidate_tells_what_it_failed_or_how_it_ranked() -> None:
    told = {one.series_instance_uid: one for one in decided(*SERIES).candidates}

    assert told["coronal"].fits
    assert told["coronal"].rank_values[:2] == ("original_first=not ORIGINAL", "whole_first=whole")
    assert [c.attribute for c in told["head"].clauses if not c.holds] == ["body_region"]
    failed = next(clause for clause in told["dose"].clauses if not clause.holds)
    assert (failed.asked_by, failed.attribute) == ("route", "modality")
    assert "chosen of 3 that fit, by original_first=ORIGINAL before not ORIGINAL" in decided(*SERIES).reason


def test_reformats_alone_are_given_to_the_gate_which_says_why_not() -> None:
    assert decided("coronal", "head").chosen == "coronal"
