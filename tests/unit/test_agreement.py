"""Two answers about one study: when they say the same, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.core.assessment.agreement import compare
from dicom_node.roles.node import Node, destinations_of_route
from dicom_node.roles.settings import SiteSettings


def scored(key: str, presence: str, probability: float, **about: Any) -> dict[str, Any]:
    code = {"value": "233604007", "scheme": "SCT", "meaning": "Pneumonia"}
    finding = {"key": key, "label": "Pneumonia", "presence": presence, "probability": probability, "code": code,
               "site": None, "laterality": None, "measurements": []}  # fmt: skip
    return {**finding, **about}


def measured(volume_ml: float) -> dict[str, Any]:
    one = {"label": "Volume", "value": volume_ml}
    return {"key": "lung", "label": "Lung", "presence": None, "probability": None, "measurements": [one]}


def answer(*findings: dict[str, Any]) -> dict[str, Any]:
    return {"state": "DONE", "findings": list(findings)}


def test_the_same_presence_agrees_whatever_the_score() -> None:
    agreement = compare(answer(scored("p", "PRESENT", 0.9)), answer(scored("p", "PRESENT", 0.7)))

    assert agreement.agrees
    assert agreement.lines == ["Pneumonia: PRESENT (0.90) live, PRESENT (0.70) in the shadow"]


def test_another_presence_differs() -> None:
    assert not compare(answer(scored("p", "PRESENT", 0.61)), answer(scored("p", "ABSENT", 0.59))).agrees


def test_findings_of_models_with_other_keys_are_matched_by_their_codes() -> None:
    agreement = compare(answer(scored("p", "PRESENT", 0.9)), answer(scored("pneu", "PRESENT", 0.9)))

    assert agreement.agrees
    assert len(agreement.lines) == 1


def test_a_finding_that_only_one_names_differs() -> None:
    other = scored("nodule", "ABSENT", 0.1, label="Nodule", code={"value": "1", "scheme": "99X", "meaning": "Nodule"})
    agreement = compare(answer(scored("p", "PRESENT", 0.9)), answer(scored("p", "PRESENT", 0.9), other))

    assert not agreement.agrees
    assert "Nodule: only in the shadow" in agreement.lines


@pytest.mark.parametrize(("shadow_ml", "agrees"), [(1000.0, True), (1050.0, True), (1060.0, False), (0.0, False)])
def test_measurements_agree_within_a_twentieth(shadow_ml: float, agrees: bool) -> None:
    assert compare(answer(measured(1000.0)), answer(measured(shadow_ml))).agrees is agrees


def test_of_answers_that_differ_only_what_differs_is_told() -> None:
    density = {"label": "Mean", "value": -850.0}
    both, more = measured(1000.0), measured(1100.0)
    more["measurements"].append(density)

    agreement = compare(answer(both, scored("p", "PRESENT", 0.9)), answer(more, scored("p", "PRESENT", 0.8)))

    assert agreement.lines == ["Lung, Volume: 1000 live, 1100 in the shadow", "Lung, Mean: only in the shadow"]


def test_one_that_declined_differs_from_one_that_answered_and_equal_refusals_agree() -> None:
    declined = {"state": "NOT_ANALYSABLE", "reason": "AGE_UNKNOWN", "findings": []}

    assert not compare(answer(scored("p", "ABSENT", 0.1)), declined).agrees
    assert compare(declined, declined).agrees
    assert not compare(declined, {**declined, "reason": "NO_IMAGES"}).agrees


LIVE = {"name": "live", "model": "ct-lung-density", "when": {"modality": "CT"}, "rank": ["-instances"]}
PACS = {"name": "pacs", "kind": "folder", "path": "/tmp/out"}


def node(**shadow: Any) -> Node:
    routes = [LIVE, {"name": "next", "model": "ct-lung-density", **shadow}]
    return Node(SiteSettings.model_validate({"route": routes, "destination": [PACS]}))


def test_a_shadow_gets_the_studies_of_the_route_it_shadows_and_delivers_nothing() -> None:
    one = node(shadow=True, shadow_of="live")
    live, shadow = one.routes

    assert (shadow.when, shadow.rank) == (live.when, live.rank)
    assert (live.destinations, shadow.destinations) == (("pacs",), ())
    assert destinations_of_route(one.settings, one.settings.route[1]) == ()
    assert (live.priority, shadow.priority) == ("images", "low")


@pytest.mark.parametrize(
    "shadow",
    [
        {"shadow": True},
        {"shadow_of": "live"},
        {"shadow": True, "shadow_of": "nothing"},
        {"shadow": True, "shadow_of": "next"},
        {"shadow": True, "shadow_of": "live", "destinations": ["pacs"]},
    ],
)
def test_a_shadow_that_shadows_nothing_or_delivers_is_refused(shadow: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="route 'next'"):
        node(**shadow)
