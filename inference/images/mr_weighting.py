"""What MR images show, as their header tells: a network of T1-weighted images outlines a T2 or an echo-planar one, too,
with numbers that look right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.contrast import contrast_is_described, contrast_was_given

_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
_EDGE = r"(?<![A-Z0-9]){}(?![0-9])"
#: Words of T1-weighted series; letters may follow (``T1W``, ``MPRAGE4``).
_T1 = re.compile(_EDGE.format(r"(T1|MP-?RAGE|TFL3D|F?SPGR|IR-?SPGR|BRAVO|3DTFE|T1TFE|IR-?TFE|VIBE)"))
#: Words of all others. A series of T1 that is called FLAIR or dark fluid says T1 too.
_OTHER = re.compile(
    _EDGE.format(
        r"(T2|PD|PROTON|DWI|DTI|DIFF[A-Z]*|ADC|TRACEW?|SWI|SWAN|QSM|TOF|MRA|ANGIO[A-Z]*|BOLD|FMRI|PERF[A-Z]*|ASL|DSC"
        r"|CISS|FIESTA|STIR|T2STAR|FIELDMAP|HEMO)"
    )
)
_FLUID = re.compile(_EDGE.format(r"(FLAIR|TIRM|DARK[- ]?FLUID)"))
_UNTOLD = frozenset({"", "UNKNOWN", "MIXED"})
#: Echo times, ms: beyond these a spin echo, or a gradient echo, is no T1-weighted one.
_LONGEST_ECHO_MS, _LONGEST_GRADIENT_ECHO_MS = 30.0, 15.0
#: Without an inversion, a longer repetition time lets T1 be forgotten.
_LONGEST_REPETITION_MS = 1500.0
#: Inversion times, ms, that bring out T1; the longer ones of FLAIR and the shorter of STIR do not.
_T1_INVERSIONS_MS = (300.0, 1400.0)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a header tells of the pulse sequence; times in ms, `None` where it does not."""

    contrasts: frozenset[str]
    kinds: frozenset[str]
    is_echo_planar: bool
    echo_ms: float | None
    repetition_ms: float | None
    inversion_ms: float | None
    words: str


def check_sequence(gate: Gate, headers: Sequence[Dataset]) -> None:
    """Hold the headers of a series against the gate.

    Raises `NotAnalysable`: ECHO_PLANAR, NOT_T1_WEIGHTED or CONTRAST_MEDIUM.
    """
    for header in headers if gate.weighting == "T1" else ():
        _check_t1(_sequence(header))
    if gate.contrast_medium_allowed:
        return
    for header in headers:
        if contrast_was_given(header) or contrast_is_described(header):
            told = "Contrast/Bolus Agent" if contrast_was_given(header) else "a description of the series"
            raise NotAnalysable(
                "CONTRAST_MEDIUM", f"The images were made after contrast medium, as {told} says; the model takes none."
            )


def _check_t1(found: _Sequence) -> None:
    if found.is_echo_planar:
        raise NotAnalysable("ECHO_PLANAR", "The images are echo-planar, as their header says; the model takes none.")
    for problem in _against_t1(found):
        raise NotAnalysable("NOT_T1_WEIGHTED", f"The images are not T1-weighted: {problem}.")
    inverted = found.inversion_ms is not None and _brings_out_t1(found.inversion_ms)
    if not ("T1" in found.contrasts or _T1.search(found.words) or inverted):
        raise NotAnalysable(
            "NOT_T1_WEIGHTED",
            "Nothing in the header says that the images are T1-weighted: neither Acquisition Contrast, nor a "
            "description, nor an inversion time.",
        )


def _against_t1(found: _Sequence) -> Iterator[str]:
    others = sorted(found.contrasts - _UNTOLD - {"T1"})
    if others:
        yield f"Acquisition Contrast says {', '.join(others)}"
    says_t1 = "T1" in found.contrasts or _T1.search(found.words) is not None
    other = _OTHER.search(found.words) or (None if says_t1 else _FLUID.search(found.words))
    if other and not (says_t1 and "T1" in found.contrasts):
        yield f"a description says {other[1]}"
    gradient = "GR" in found.kinds and "SE" not in found.kinds
    longest_ms = _LONGEST_GRADIENT_ECHO_MS if gradient else _LONGEST_ECHO_MS
    if found.echo_ms is not None and found.echo_ms > longest_ms:
        yield f"the echo time is {found.echo_ms:g} ms, {longest_ms:g} ms would be the longest"
    inverted = found.inversion_ms is not None and _brings_out_t1(found.inversion_ms)
    if found.repetition_ms is not None and found.repetition_ms > _LONGEST_REPETITION_MS and not inverted:
        yield f"the repetition time is {found.repetition_ms:g} ms without an inversion time that would bring out T1"


def _brings_out_t1(inversion_ms: float) -> bool:
    return _T1_INVERSIONS_MS[0] <= inversion_ms <= _T1_INVERSIONS_MS[1]


def _sequence(header: Dataset) -> _Sequence:
    parts = list(_groups(header))
    texts = [str(header.get(keyword) or "") for keyword in _DESCRIPTIONS]
    return _Sequence(
        contrasts=frozenset(text.upper() for text in _values(parts, "AcquisitionContrast")),
        kinds=frozenset(text.upper() for text in _values(parts, "ScanningSequence")),
        is_echo_planar="EP" in {text.upper() for text in _values(parts, "ScanningSequence")}
        or "YES" in {text.upper() for text in _values(parts, "EchoPlanarPulseSequence")},
        echo_ms=_number(parts, "EchoTime", "EffectiveEchoTime"),
        repetition_ms=_number(parts, "RepetitionTime"),
        inversion_ms=_number(parts, "InversionTime", "InversionTimes"),
        words=" ".join(texts).upper().replace("_", " "),
    )


def _groups(header: Dataset) -> Iterator[Dataset]:
    """Yield the header, and of an enhanced object the groups that all frames share and those of the first."""
    yield header
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(header.get(keyword) or ())[:1]:
            for element in group:
                if element.VR == "SQ":
                    yield from list(element.value)[:1]


def _values(parts: Sequence[Dataset], keyword: str) -> list[str]:
    found = [part.get(keyword) for part in parts]
    return [
        str(text).strip()
        for one in found
        if one not in (None, "")
        for text in ([one] if isinstance(one, str | int | float) else one)
    ]


def _number(parts: Sequence[Dataset], *keywords: str) -> float | None:
    """Return the first number above 0 among attributes; 0 is written where there is none."""
    for text in (text for keyword in keywords for text in _values(parts, keyword)):
        try:
            if float(text) > 0:
                return float(text)
        except ValueError:
            continue
    return None
