"""Answers with names and numbers that no sound model gives: every kind of object is made all the same, and is valid."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.analysis.answer import Analysis
from dicom_node.core.entities import ArtifactKind
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.results import analysis_examples as examples
from tests.support.results.result_answers import every_output_set
from tests.support.validators import objects as validators

NOT_A_NUMBER = float("nan")


def labelled(label: str) -> Analysis:
    answer = examples.ct_analysis()
    findings = tuple(replace(one, label=f"{label} {one.key}") for one in answer.findings)
    segments = tuple(replace(one, label=f"{label} {one.number}") for one in answer.segments)
    return replace(answer, findings=findings, segments=segments, notes=(label,))


def unsure(**numbers: Any) -> Analysis:
    answer = examples.radiograph_analysis()
    return replace(answer, findings=tuple(replace(one, **numbers) for one in answer.findings))


ANSWERS = {
    "a probability that is no number": unsure(probability=NOT_A_NUMBER),
    "a threshold that is no number": unsure(threshold=NOT_A_NUMBER),
    "a threshold beyond all numbers": unsure(threshold=float("inf")),
    "a backslash": labelled(r"a\b^c=d"),
    "an escape sequence": labelled("\x1b[31mred\x07\x00 \x7f"),
    "words turned round": labelled("Lungen\u00f6dem \u202e \u80ba"),
    "code of many tongues": labelled(r"#panic() <script>alert(1)</script> $x$ @ref [bold] `r` %s {0} \u{41}"),
    "a name of eighty letters": labelled("X" * 80),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_every_kind_is_made_and_valid(answer: Analysis, tmp_path: Path) -> None:
    written = write_objects(answer, examples.context(output_sets=every_output_set()))

    kinds = Counter(one.kind for one in written)
    assert kinds.keys() >= {
        ArtifactKind.SECONDARY_CAPTURE,
        ArtifactKind.PRESENTATION_STATE,
        ArtifactKind.ENCAPSULATED_PDF,
        ArtifactKind.STRUCTURED_REPORT,
    }
    for one in written:
        path = tmp_path / f"{one.kind}-{one.order}.dcm"
        path.write_bytes(to_part10(one.dataset))
        if one.kind is not ArtifactKind.SECONDARY_CAPTURE:
            validators.assert_valid_dicom(path)
        if one.kind is ArtifactKind.ENCAPSULATED_PDF:
            validators.assert_readable_pdf(path)
