"""Whether codes can be codes: known schemes, and the check digits that SNOMED CT and LOINC carry against slips."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dicom_node.inference.cards.card import ModelCard
from dicom_node.model import Code

#: Coding scheme designators a model may answer in (PS3.16 Table 8-1), besides private ones (99…).
SCHEMES = frozenset({"SCT", "DCM", "LN", "UCUM", "RADLEX", "NCIt", "FMA", "UMLS", "MDC", "I10", "ICD10", "UNS"})

_SCTID, _LOINC, _DCM = re.compile(r"[1-9]\d{5,17}"), re.compile(r"\d{1,7}-\d"), re.compile(r"\d{6}")
#: Verhoeff's permutation and the multiplication table of the dihedral group D5 (SNOMED CT Release File Specification).
_PERMUTE = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
_TIMES = [
    [(i + j) % 5 if i < 5 and j < 5 else 5 + (i + j) % 5 if i < 5 else 5 + (i - j) % 5 if j < 5 else (i - j) % 5
     for j in range(10)]
    for i in range(10)
]  # fmt: skip


def code_problems(card: ModelCard) -> Iterator[str]:
    """Tell of each code of a card that cannot be one."""
    for place, code in _codes(card):
        problem = _problem(code)
        if problem:
            yield f"{place}: {code.value} ({code.scheme}) {problem}"


def _codes(card: ModelCard) -> Iterator[tuple[str, Code]]:
    for finding in card.findings:
        yield f"finding {finding.key} code", finding.code
        yield f"finding {finding.key} site", finding.site
        if finding.unit is not None:
            yield f"finding {finding.key} unit", finding.unit
    for segment in card.segments:
        yield f"segment {segment.key} category", segment.category
        yield f"segment {segment.key} type", segment.type
        if segment.region is not None:
            yield f"segment {segment.key} region", segment.region


def _problem(code: Code) -> str:
    if code.scheme == "SCT" and not (_SCTID.fullmatch(code.value) and _verhoeff_holds(code.value)):
        return "is no SNOMED CT identifier: its check digit does not fit"
    if code.scheme == "LN" and not (_LOINC.fullmatch(code.value) and _luhn_holds(code.value)):
        return "is no LOINC code: its check digit does not fit"
    if code.scheme == "DCM" and not _DCM.fullmatch(code.value):
        return "is no code of DICOM: those have six digits"
    if code.scheme not in SCHEMES and not code.scheme.startswith("99"):
        return f"names a scheme that receivers do not know; known are {', '.join(sorted(SCHEMES))} and private 99…"
    return ""


def _verhoeff_holds(digits: str) -> bool:
    check = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        check = _TIMES[check][_permuted(place % 8, digit)]
    return check == 0


def _permuted(times: int, digit: int) -> int:
    for _ in range(times):
        digit = _PERMUTE[1][digit]
    return digit


def _luhn_holds(code: str) -> bool:
    digits = [int(digit) for digit in code if digit != "-"]
    doubled = [sum(divmod(digit * 2, 10)) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
