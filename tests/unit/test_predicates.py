"""Declarative conditions."""

import pytest

from dicom_node.core.errors import SettingsError
from dicom_node.core.series.predicates import MAX_MATCHED_CHARACTERS, check_conditions, evaluate

CT = {
    "modality": frozenset({"CT"}),
    "study_description": frozenset({"CT Thorax w/o contrast"}),
    "image_type": frozenset({"ORIGINAL\\PRIMARY\\AXIAL", "ORIGINAL", "PRIMARY", "AXIAL"}),
    "slice_thickness": frozenset({"1.250"}),
    "instances": frozenset({"120"}),
}


def holds(condition, attribute="modality", attributes=CT):
    conditions = {attribute: condition}
    check_conditions(conditions)
    (clause,) = evaluate(conditions, attributes)
    return clause.holds


@pytest.mark.parametrize(
    ("attribute", "condition", "expected"),
    [
        ("modality", "ct", True),
        ("modality", "MR", False),
        ("modality", ["CR", "ct"], True),
        ("modality", {"none_of": ["CR", "CT"]}, False),
        ("modality", {"none_of": "MR"}, True),
        ("slice_thickness", 1.25, True),
        ("slice_thickness", {"max": 3}, True),
        ("slice_thickness", {"min": 1, "max": 1.2}, False),
        ("modality", {"min": 1}, False),
        ("study_description", {"regex": "chest|thorax"}, True),
        ("study_description", {"regex": "^thorax"}, False),
        ("image_type", {"contains": "primary"}, True),
        ("image_type", {"contains": ["ORIGINAL", "AXIAL"]}, True),
        ("image_type", {"contains": ["ORIGINAL", "LOCALIZER"]}, False),
        ("image_type", {"none_of": ["LOCALIZER"]}, True),
        ("contrast_bolus_agent", {"exists": False}, True),
        ("modality", {"exists": False}, False),
        ("modality", {"exists": True}, True),
        ("kvp", {"max": 140}, False),
        ("kvp", {"max": 140, "or_absent": True}, True),
        ("slice_thickness", {"max": 1, "or_absent": True}, False),
        ("kvp", {"none_of": [80]}, True),
    ],
)
def test_a_condition_means_what_it_says(attribute, condition, expected):
    assert holds(condition, attribute) is expected


def test_all_operators_must_be_met_by_the_same_value():
    echoes = {"echo_time": frozenset({"5", "90"})}
    assert not holds({"min": 10, "max": 80}, "echo_time", echoes)
    assert holds({"min": 10, "max": 100}, "echo_time", echoes)


def test_parts_of_different_images_do_not_add_up_to_one_image_type():
    mixed = {"image_type": frozenset({"ORIGINAL\\SECONDARY", "DERIVED\\PRIMARY", "ORIGINAL", "PRIMARY"})}
    assert not holds({"contains": ["ORIGINAL", "PRIMARY"]}, "image_type", mixed)


def test_not_a_number_is_neither_small_nor_large():
    odd = {"slice_thickness": frozenset({"nan", "inf"})}
    assert not holds({"min": 0}, "slice_thickness", odd)
    assert not holds({"max": 3}, "slice_thickness", odd)


def test_a_regular_expression_sees_a_bounded_text():
    long = {"study_description": frozenset({"x" * MAX_MATCHED_CHARACTERS + "thorax"})}
    assert not holds({"regex": "thorax"}, "study_description", long)


def test_a_clause_tells_what_was_wanted_and_what_was_there():
    clauses = evaluate({"slice_thickness": {"max": 3, "or_absent": True}, "image_type": {"contains": "DERIVED"}}, CT)
    assert [c.condition for c in clauses] == ["is at most 3 or is absent", "contains DERIVED"]
    assert [c.actual for c in clauses] == ["1.250", "ORIGINAL\\PRIMARY\\AXIAL"]
    assert [c.holds for c in clauses] == [True, False]


def test_many_values_are_shown_in_short():
    (clause,) = evaluate({"position": "x"}, {"position": frozenset(str(n) for n in range(10, 30))})
    assert clause.actual == "10, 11, 12, 13, 14, 15 and 14 more"


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"Modality": "CT"}, "'Modality'.*snake_case"),
        ({"modality": {"is": "CT"}}, "modality: unknown operator 'is'. Allowed: equals, any_of"),
        ({"modality": []}, "any_of needs a list"),
        ({"modality": True}, "equals needs a text or a number"),
        ({"slice_thickness": {"max": "3"}}, "max needs a number"),
        ({"study_description": {"regex": "("}}, "not a regular expression"),
        ({"modality": {"exists": "yes"}}, "exists needs true or false"),
        ({"modality": {}}, "says nothing"),
        ({"modality": {"or_absent": True}}, "says nothing"),
        ({"modality": {"exists": False, "equals": "CT"}}, "exists = false leaves no value"),
        ({"modality": {"exists": True, "or_absent": True}}, "contradict"),
    ],
)
def test_a_condition_that_cannot_be_used_is_named(conditions, told):
    with pytest.raises(SettingsError, match=told):
        check_conditions(conditions)


def test_an_attribute_that_is_not_collected_is_named_with_the_nearest_one():
    with pytest.raises(SettingsError, match="Did you mean body_part_examined"):
        check_conditions({"body_part": "CHEST"}, known={"modality", "body_part_examined"})
