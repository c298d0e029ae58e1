"""What a reviewer adds to a result, before anything of it is kept: only what every report can hold."""

from __future__ import annotations

import pytest

from dicom_node.core.entities import Code, Region
from dicom_node.core.errors import ReviewRefused
from dicom_node.headers.image_size import ImageSize
from dicom_node.people.review.changes import AddedFinding, reviewed_findings

LUNG = Code("39607008", "SCT", "Lung")
UNSPEAKABLE = ("a\\b", "a\0b", " ", "", "a  b", " b", "b ", "a\nb", "a\tb", "a\x1b$B", "\u202egnul", "a\u2028b")


def on_no_image(uid: str) -> ImageSize:
    raise AssertionError(uid)


@pytest.mark.parametrize("word", UNSPEAKABLE, ids=map(ascii, UNSPEAKABLE))
def test_a_code_or_label_that_no_report_can_hold_is_refused(word: str) -> None:
    codes = (Code(word, "99X", "Spot"), Code("X1", word, "Spot"), Code("X1", "99X", word))
    added = [AddedFinding(**({"code": LUNG, "site": LUNG} | {role: code}))  # type: ignore[arg-type]
             for code in codes for role in ("code", "site", "laterality")]  # fmt: skip
    added += [AddedFinding(code=LUNG, site=LUNG, label=word)] if word else []
    for one in added:
        with pytest.raises(ReviewRefused):
            reviewed_findings([], [], [one], on_no_image)


def test_codes_of_any_script_and_signs_are_taken_as_they_are() -> None:
    code = Code("a^b~c|d&e", "99^", "\u7d50\u7bc0 <5 mm")
    (found,) = reviewed_findings([], [], [AddedFinding(code=code, site=code, laterality=code)], on_no_image)
    assert (found.finding.code, found.finding.site, found.finding.label) == (code, code, code.meaning)


@pytest.mark.parametrize(
    ("points", "encloses"),
    [
        (((0, 0), (0, 9), (0, 5)), False),
        (((1, 1), (2, 2), (3, 3), (1, 1)), False),
        (((1, 1), (5, 1), (1, 1), (1, 5)), False),
        (((0, 0), (0, 9), (0, 5), (1, 5)), True),
        (((1, 1), (9, 9), (1, 9), (9, 1)), True),
    ],
)
def test_an_outline_encloses_something(points: tuple[tuple[float, float], ...], encloses: bool) -> None:
    one = AddedFinding(code=LUNG, site=LUNG, region=Region(sop_instance_uid="2.25.1", points_xy_px=points))
    if encloses:
        assert reviewed_findings([], [], [one], lambda _: ImageSize(rows=9, columns=9, frames=1))
    else:
        with pytest.raises(ReviewRefused, match="encloses nothing"):
            reviewed_findings([], [], [one], lambda _: ImageSize(rows=9, columns=9, frames=1))
