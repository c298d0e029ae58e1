"""What identifies a patient is known in one place: the standard's table, whole, and names that no log line takes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from pydantic import ValidationError
from pydicom.datadict import dictionary_description

from dicom_node.config.outgoing import DeidentificationSettings
from dicom_node.core.identifying import (
    NODE_FIELDS,
    ProfileOption,
    confidential_attribute,
    confidential_attributes,
)
from tests.support.source_code import PRODUCT, modules_of, nodes_of

_ACTIONS = {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
_LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def test_the_table_is_whole() -> None:
    """621 rows in edition 2024e, 26 since: as counted in two transcriptions that agree."""
    table = confidential_attributes()
    assert len(table) == 647
    assert {row.basic for row in table.values()} == _ACTIONS
    counted = {option: sum(option in row.options for row in table.values()) for option in ProfileOption}
    assert counted == {
        ProfileOption.SAFE_PRIVATE: 1, ProfileOption.UIDS: 60, ProfileOption.DEVICE_IDENTITY: 57,
        ProfileOption.INSTITUTION_IDENTITY: 10, ProfileOption.PATIENT_CHARACTERISTICS: 13,
        ProfileOption.FULL_DATES: 165, ProfileOption.MODIFIED_DATES: 165, ProfileOption.CLEAN_DESCRIPTORS: 125,
        ProfileOption.CLEAN_STRUCTURED_CONTENT: 3, ProfileOption.CLEAN_GRAPHICS: 4,
    }  # fmt: skip


def test_rows_name_the_attribute_of_their_tag() -> None:
    for tag, row in confidential_attributes().items():
        try:
            name = dictionary_description(int(tag, 16))
        except (KeyError, ValueError):
            continue
        assert _letters(name) == _letters(row.name), tag


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


@pytest.mark.parametrize(
    ("tag", "basic"),
    [
        (0x00100020, "Z/D"),
        (0x60023000, "X"),
        (0x50100020, "X"),
        (0x00191234, "X"),
        (0x0008103E, "X"),
        (0x0020000D, "U"),
    ],
)
def test_a_tag_finds_its_row_also_where_groups_repeat(tag: int, basic: str) -> None:
    row = confidential_attribute(tag)
    assert row is not None
    assert row.basic == basic


def test_what_describes_pixels_is_in_no_row() -> None:
    assert confidential_attribute(0x00280010) is None


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for path in modules_of(*PRODUCT):
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS:
                of = node.func.value
                if isinstance(of, ast.Name | ast.Attribute) and ast.unparse(of).endswith("_log"):
                    yield f"{path}:{node.lineno}", node


def test_no_log_line_is_given_a_field_that_identifies_a_patient() -> None:
    calls = list(log_calls())
    assert len(calls) > 100
    for place, call in calls:
        keys = {node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert not keys & NODE_FIELDS, place


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ({"name": "basic"}, "always there"),
        ({"name": "x", "options": ["full_dates", "modified_dates"]}, "exclude each other"),
        ({"name": "x", "options": ["clean_graphics"]}, "clean_graphics|Input should be"),
        ({"name": "x", "safe_private": ["SIEMENS/0018/0C"]}, "CREATOR/GGGG/EE"),
    ],
)
def test_a_profile_that_means_nothing_is_refused(profile: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        DeidentificationSettings.model_validate(profile)
