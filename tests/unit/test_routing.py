"""Which series a model gets, and why."""

import json
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.core.entities import Instance, InstanceRole, Route, SendingPeer, Series, Study, StudyState
from dicom_node.core.errors import SettingsError
from dicom_node.core.series.routing import check_rank, decide, series_attributes

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
CHEST_CT = Route(
    name="chest-ct",
    model="ct-lung-density",
    destinations=("pacs",),
    when=(
        {"modality": "CT", "body_part_examined": ["CHEST", "THORAX"]},
        {"modality": "CT", "study_description": {"regex": "chest|thorax"}},
    ),
)
THIN = ({"modality": "CT", "slice_thickness": {"max": 3}, "instances": {"min": 2}},)


def instance(uid, series, **attributes):
    return Instance(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid="1.2",
        series_instance_uid=series,
        sha256="0" * 64,
        size_bytes=1,
        object_key=uid,
        role=InstanceRole.SOURCE,
        attributes=attributes,
        received_at=NOW,
        sender=SendingPeer("CT1", "AINODE", "10.1.2.3"),
    )


def series(uid, count, **attributes):
    return Series(
        series_instance_uid=uid, instances=tuple(instance(f"{uid}.{n}", uid, **attributes) for n in range(count))
    )


def study(*all_series):
    return Study(
        study_instance_uid="1.2",
        revision=1,
        state=StudyState.COMPLETE,
        series=all_series,
        first_received_at=NOW,
        last_received_at=NOW,
    )


CHEST = {"modality": "CT", "body_part_examined": "CHEST", "image_type": "ORIGINAL\\PRIMARY\\AXIAL"}
SCOUT = series("1.2.1", 1, **CHEST, slice_thickness="0.6")
THICK = series("1.2.2", 4, **CHEST, slice_thickness="5.0")
LUNG = series("1.2.3", 3, **CHEST, slice_thickness="1.25")
SOFT = series("1.2.4", 5, **CHEST, slice_thickness="2.5")


def test_attributes_hold_each_value_whole_and_in_parts():
    attributes = series_attributes(series("1.2.9", 2, image_type="ORIGINAL\\PRIMARY ", modality="CT"))
    assert attributes["image_type"] == {"ORIGINAL\\PRIMARY", "ORIGINAL", "PRIMARY"}
    assert attributes["instances"] == {"2"}
    assert attributes["calling_ae_title"] == {"CT1"}
    assert attributes["source_host"] == {"10.1.2.3"}


def test_an_empty_value_is_absent():
    assert "modality" not in series_attributes(series("1.2.9", 1, modality=" "))


def test_the_best_ranked_series_that_fits_is_chosen():
    decision = decide(study(SCOUT, THICK, LUNG, SOFT), CHEST_CT, THIN, rank=("slice_thickness",))
    assert decision.matched
    assert decision.chosen == "1.2.3"
    assert not decision.tie
    assert [c.series_instance_uid for c in decision.candidates] == ["1.2.3", "1.2.4", "1.2.1", "1.2.2"]
    assert decision.reason == "Series 1.2.3 (3 instances) chosen of 2 that fit, by slice_thickness=1.25 before 2.5."


def test_the_rank_of_the_route_goes_before_that_of_the_model():
    route = Route(name="r", model="m", destinations=(), rank=("-instances",))
    assert decide(study(LUNG, SOFT), route, THIN, rank=("slice_thickness",)).chosen == "1.2.4"


def test_original_images_go_first():
    derived = series("1.2.0", 9, **{**CHEST, "image_type": "DERIVED\\SECONDARY"}, slice_thickness="1")
    decision = decide(study(derived, LUNG), CHEST_CT, THIN, rank=("original_first", "slice_thickness"))
    assert decision.chosen == "1.2.3"
    assert decision.candidates[1].rank_values == ("original_first=not ORIGINAL", "slice_thickness=1")


@pytest.mark.parametrize("rank", ["slice_thickness", "-slice_thickness"])
def test_a_series_without_the_ranked_value_comes_last(rank):
    unknown = series("1.2.0", 3, **CHEST)
    assert decide(study(unknown, LUNG), CHEST_CT, (), rank=(rank,)).chosen == "1.2.3"


def test_equal_series_are_a_tie_settled_by_uid():
    twin = series("1.2.31", 3, **CHEST, slice_thickness="1.25")
    decision = decide(study(twin, LUNG), CHEST_CT, THIN, rank=("slice_thickness",))
    assert (decision.tie, decision.chosen) == (True, "1.2.3")
    assert "equal in rank with series 1.2.31" in decision.reason


SCAN = {**CHEST, "image_type": "ORIGINAL\\PRIMARY\\AXIAL", "manufacturer": "SIEMENS", "slice_thickness": "1"}


def kernel(uid: str, name: str, instances: int = 3, **more: str) -> Series:
    return series(uid, instances, **{**SCAN, "convolution_kernel": name, **more})


def test_of_two_kernels_the_soft_one_is_chosen_and_the_reason_names_both():
    decision = decide(study(kernel("1.2.1", "B70f"), kernel("1.2.2", "B30f")), CHEST_CT, THIN, rank=())
    assert (decision.chosen, decision.tie) == ("1.2.2", False)
    assert decision.reason.endswith("by soft_kernel_first=soft (B30f) before sharp (B70f).")


@pytest.mark.parametrize("said", ["LUNG EXP 1.25", "Thorax Exspiration", "HR_expir", "Poumon expiré", "Ausatmung"])
def test_a_scan_after_breathing_out_goes_behind_one_after_breathing_in_whatever_its_kernel(said):
    out = kernel("1.2.1", "B30f", series_description=said)
    into = kernel("1.2.2", "B70f", series_description="Lung insp", protocol_name="Thorax Insp/Exp")
    decision = decide(study(out, into), CHEST_CT, THIN, rank=())
    assert decision.chosen == "1.2.2"
    assert "by inspiration_first=not in expiration before in expiration" in decision.reason


@pytest.mark.parametrize("said", ["Chest INSP EXP", "spiral", "Exposure test", "Exploration"])
def test_what_does_not_speak_of_breathing_out_alone_is_no_expiration(said):
    first, second = kernel("1.2.1", "B30f", series_description=said), kernel("1.2.2", "B70f")
    assert decide(study(first, second), CHEST_CT, THIN, rank=()).chosen == "1.2.1"


def test_a_model_may_want_the_sharp_kernel():
    both = study(kernel("1.2.1", "B30f"), kernel("1.2.2", "B70f"))
    assert decide(both, CHEST_CT, THIN, rank=("sharp_kernel_first",)).chosen == "1.2.2"
    assert decide(both, CHEST_CT, ({"kernel_sharpness": "sharp"},), rank=()).chosen == "1.2.2"


def test_a_localizer_or_a_few_slices_with_a_soft_kernel_go_behind_the_whole_scan():
    """A scan is preceded by a localizer and, with contrast, by a few slices that watch it arrive."""
    scout = series("1.2.1", 2, **{**SCAN, "image_type": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    watching = kernel("1.2.2", "B20f", slice_thickness="2")
    whole = kernel("1.2.3", "B70f", instances=30)
    decision = decide(study(scout, watching, whole), CHEST_CT, THIN, rank=("soft_kernel_first",))
    assert decision.chosen == "1.2.2", "a rank of its own is taken at its word"
    rank = ("original_first", "whole_first", "soft_kernel_first")
    assert decide(study(scout, watching, whole), CHEST_CT, THIN, rank).chosen == "1.2.3"


def test_a_conventional_series_goes_before_what_spectral_ct_computed():
    computed = kernel("1.2.1", "B30f", series_description="MonoE 40 keV")
    decision = decide(study(computed, kernel("1.2.2", "B30f")), CHEST_CT, THIN, rank=())
    assert decision.chosen == "1.2.2"
    assert "conventional_first=conventional before virtual monoenergetic at 40 keV" in decision.reason


def test_series_equal_in_all_else_are_taken_in_the_order_of_their_numbers():
    first, second = kernel("1.2.9", "B30f", series_number="2"), kernel("1.2.1", "B30f", series_number="11")
    assert decide(study(first, second), CHEST_CT, THIN, rank=()).chosen == "1.2.9"


def test_a_clause_about_a_body_region_says_by_what_it_is_known():
    shown = series("1.2.1", 3, modality="CT", body_part_examined="NECKCHESTABDOMEN", slice_thickness="1")
    route = Route(name="r", model="m", destinations=(), when=({"body_region": "CHEST"},))
    (candidate,) = decide(study(shown), route, (), rank=()).candidates
    (clause,) = candidate.clauses
    assert clause.holds
    assert clause.actual == "ABDOMEN, CHEST, NECK, by BodyPartExamined NECKCHESTABDOMEN"


def test_a_study_no_series_of_which_meets_the_route_is_not_matched():
    mr = series("1.2.7", 3, modality="MR", body_part_examined="CHEST")
    decision = decide(study(mr), CHEST_CT, THIN, rank=())
    assert (decision.matched, decision.chosen) == (False, None)
    assert "No series meets route chest-ct" in decision.reason
    assert "modality is CT (is MR)" in decision.reason


def test_a_matching_study_without_a_fitting_series_says_what_is_lacking():
    decision = decide(study(THICK), CHEST_CT, THIN, rank=())
    assert (decision.matched, decision.chosen) == (True, None)
    assert decision.reason == (
        "Route chest-ct matches, but no series fits its model. "
        "Closest: series 1.2.2 fails slice_thickness is at most 3 (is 5.0)."
    )


def test_the_alternative_that_came_closest_is_told():
    described = series("1.2.8", 3, modality="CT", study_description="CT Thorax", slice_thickness="1")
    (candidate,) = decide(study(described), CHEST_CT, THIN, rank=()).candidates
    told = [clause.attribute for clause in candidate.clauses if clause.asked_by == "route"]
    assert told == ["modality", "study_description"]


def test_one_series_must_meet_a_whole_alternative():
    route = Route(name="r", model="m", destinations=(), when=({"modality": "CT", "body_part_examined": "CHEST"},))
    ct_head = series("1.2.1", 1, modality="CT", body_part_examined="HEAD")
    dx_chest = series("1.2.2", 1, modality="DX", body_part_examined="CHEST")
    assert not decide(study(ct_head, dx_chest), route, (), ()).matched


def test_a_route_without_conditions_matches_every_study_that_has_an_image():
    route = Route(name="all", model="m", destinations=())
    assert decide(study(SCOUT), route, (), ()).chosen == "1.2.1"
    empty = decide(study(), route, (), ())
    assert (empty.matched, empty.chosen) == (False, None)


def test_a_decision_can_be_told_as_json():
    told = json.loads(json.dumps(decide(study(LUNG), CHEST_CT, THIN, rank=()).as_dict()))
    assert told["chosen"] == "1.2.3"
    assert told["candidates"][0]["clauses"][0] == {
        "attribute": "modality",
        "condition": "is CT",
        "holds": True,
        "actual": "CT",
        "asked_by": "route",
    }


def test_a_misspelt_rank_key_is_named():
    check_rank(("-instances", "original_first"), known={"instances"})
    with pytest.raises(SettingsError, match="slice_thicknes"):
        check_rank(("slice_thicknes",), known={"slice_thickness"})


ATTRIBUTES = st.fixed_dictionaries(
    {
        "modality": st.sampled_from(["CT", "MR"]),
        "body_part_examined": st.sampled_from(["CHEST", "HEAD", ""]),
        "slice_thickness": st.sampled_from(["1", "1.0", "2.5", "5", "nan", "thin", ""]),
        "image_type": st.sampled_from(["ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY", ""]),
    }
)
SERIES = st.lists(st.lists(ATTRIBUTES, min_size=1, max_size=4), max_size=5)
RANKS = st.lists(
    st.sampled_from(["slice_thickness", "-slice_thickness", "instances", "-instances", "original_first", "-modality"]),
    max_size=3,
)


@given(described=SERIES, rank=RANKS, seed=st.randoms(use_true_random=False))
def test_a_decision_does_not_depend_on_the_order_of_arrival(described, rank, seed):
    in_order = [
        Series(
            series_instance_uid=f"1.2.{s}",
            instances=tuple(instance(f"1.2.{s}.{i}", f"1.2.{s}", **a) for i, a in enumerate(group)),
        )
        for s, group in enumerate(described)
    ]
    assert decide(study(*in_order), CHEST_CT, THIN, rank) == decide(
        study(*shuffled(in_order, seed)), CHEST_CT, THIN, rank
    )


def shuffled(in_order, seed: random.Random):
    mixed = [
        Series(series_instance_uid=s.series_instance_uid, instances=tuple(seed.sample(s.instances, len(s.instances))))
        for s in in_order
    ]
    return seed.sample(mixed, len(mixed))


CHILD = Route(name="child", model="m", destinations=(), when=({"modality": "CR", "age_years": {"min": 1, "max": 5}},))


@pytest.mark.parametrize(
    ("attributes", "is_wanted"),
    [
        ({"age_years": "5"}, True),
        ({"age_years": "6"}, False),
        ({"patient_age": "004Y"}, True),
        ({"patient_age": "040Y", "age_years": "40"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_route_may_ask_for_an_age_and_says_why_it_takes_no_other(attributes, is_wanted):
    decision = decide(study(series("1.2.9", 1, modality="CR", **attributes)), CHILD, (), ())

    assert decision.matched is is_wanted
    if not is_wanted:
        assert "age_years is at least 1 and is at most 5 (is " in decision.reason
