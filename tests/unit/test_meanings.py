"""Meanings beside codes in de-identified reports: those of the vocabulary, and nothing that somebody typed."""

from __future__ import annotations

import pytest

from dicom_node.deidentification.harmless_text import harmless_meaning


@pytest.mark.parametrize(
    ("value", "scheme", "said", "left"),
    [
        ("39607008", "SCT", "Lung", "Lung"),
        ("39607008", "SCT", "Jane Doe 1970", "Lung"),
        ("12345678", "SCT", "Jane Doe", ""),
        ("12345678", "SCT", "CHEST, Jane", "CHEST"),
        ("LAA950", "99AINODE", "Jane Doe", "LAA-950, lung volume below -950 HU"),
        ("121071", "DCM", "Finding", "Finding"),
        ("LAA950", "SCT", "Jane Doe", ""),
    ],
)
def test_a_code_means_what_its_vocabulary_says(value: str, scheme: str, said: str, left: str) -> None:
    assert harmless_meaning(value, scheme, said) == left
