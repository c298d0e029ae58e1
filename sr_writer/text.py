"""The words of a result, the same in pictures and documents, in ASCII: it survives whatever character set came in."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.analysis.answer import Analysis, NotAnalysed, whole_objects
from dicom_node.analysis.context import ReportContext
from dicom_node.core.assessment.review import REVIEW_REASONS, ReviewedFinding
from dicom_node.core.entities import Finding, Measurement, ModelIdentity, Presence, Region

NOT_VERIFIED = "AI - NOT VERIFIED"
REVIEWED = "AI - REVIEWED"
RESEARCH_ONLY = "RESEARCH ONLY"
NOT_PERFORMED = "AI ANALYSIS NOT PERFORMED"
NOT_MEASURABLE = "not measurable"
WITHHELD = "not reported"
#: Series that are named where several were looked at.
_MOST_SERIES = 6
_DATE = re.compile(r"\d{8}")

_REPLACEMENTS = str.maketrans(
    {"≥": ">=", "≤": "<=", "–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"',
     "×": "x", "·": "-", "•": "-", "°": " deg", "µ": "u", "±": "+/-", "→": "->", "…": "...",
     "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
)  # fmt: skip


def ascii_text(text: str) -> str:
    """Return `text` in ASCII on one line: signs are spelled out, accents dropped, the rest becomes ``?``."""
    if not text.isascii():
        spelled = unicodedata.normalize("NFKD", text.translate(_REPLACEMENTS))
        text = "".join(c for c in spelled if not unicodedata.combining(c)).encode("ascii", "replace").decode("ascii")
    line = " ".join(text.split())
    # Neither DICOM nor a PDF takes control characters.
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def long_string(text: str, limit: int = 64) -> str:
    """Return ASCII text that fits a value of VR LO (PS3.5 6.2: 64 characters, no backslash)."""
    plain = ascii_text(text).replace("\\", "/")
    return plain if len(plain) <= limit else plain[: limit - 3].rstrip() + "..."


def written_in_letters_of(source: Dataset, text: str) -> str:
    """Return what a person wrote on one line: as it is where the character set of the source has its letters, else in
    ASCII. What is written has that set (see `identity.stamp`)."""
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    stated = source.get("SpecificCharacterSet") or "ISO_IR 100"
    first = stated if isinstance(stated, str) else str(stated[0] or "")
    try:
        line.encode(python_encoding[first] if first else "ascii")
    except (UnicodeEncodeError, LookupError):
        return ascii_text(line)
    return line


def marking(intended_use: str, *, reviewed: bool = False) -> str:
    """Return the words every result carries: whether a person has verified it, and research only where it is that."""
    said = REVIEWED if reviewed else NOT_VERIFIED
    return f"{said} - {RESEARCH_ONLY}" if intended_use == "research" else said


def marking_of(context: ReportContext) -> str:
    """Return the marking of what is written in this context."""
    return marking(context.intended_use, reviewed=context.review is not None)


def standing_of(context: ReportContext, zone: tzinfo | None) -> str:
    """Say in a sentence whether anybody answers for the result; dates are by the clock of `zone`."""
    return "AI result, not reviewed." if context.review is None else ascii_text(context.review.sentence(zone))


def number(value: float) -> str:
    """Return a measured value as people write it: no exponent, no trailing zeros; words for what is no number."""
    if not math.isfinite(value):
        return NOT_MEASURABLE
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return text if text not in {"", "-0"} else "0"


def percent(probability: float) -> str:
    """Return a probability 0..1 as a percentage with one decimal; words for what is no number."""
    return f"{probability * 100:.1f} %" if math.isfinite(probability) else NOT_MEASURABLE


def measured(measurement: Measurement) -> str:
    """Return a value with its unit as radiologists write it."""
    unit = {"[hnsf'U]": "HU", "1": ""}.get(measurement.unit.value, measurement.unit.value)
    if not math.isfinite(measurement.value):
        return NOT_MEASURABLE
    return ascii_text(f"{number(measurement.value)} {unit}".strip())


def measured_labels(findings: Sequence[Finding]) -> list[str]:
    """Return what any of the findings measures or withholds, each once."""
    labels: dict[str, None] = {}
    for finding in findings:
        labels |= dict.fromkeys(one.label for one in finding.measurements)
        labels |= dict.fromkeys(one.label for one in finding.withheld)
    return list(labels)


def value_of(finding: Finding, label: str) -> str:
    """Return the value of one measurement with its unit, words for one that is withheld, a dash where there is none."""
    if any(one.label == label for one in finding.withheld):
        return WITHHELD
    return next((measured(one) for one in finding.measurements if one.label == label), "-")


def answer_of(finding: Finding) -> str:
    """Return the finding's presence in one word; a finding that only measures has none."""
    words = {Presence.PRESENT: "PRESENT", Presence.ABSENT: "ABSENT", Presence.UNDETERMINED: "UNDETERMINED"}
    return words[finding.presence] if finding.presence is not None else ""


def score_names(findings: Sequence[Finding]) -> str:
    """Return what scores are that are no output of a classifier, as sentences to go on with; else nothing."""
    return "".join(f" {ascii_text(f'{one.label}: {one.score.meaning.lower()}')}." for one in findings if one.score)


def said_of(finding: Finding) -> str:
    """Return in a line what was said of a finding: ``Pneumonia: PRESENT; score 83.2 %``."""
    region = finding.region
    parts = [
        answer_of(finding),
        "" if finding.probability is None else f"score {percent(finding.probability)}",
        *(f"{one.label} {measured(one)}" for one in finding.measurements),
        *(f"{one.label} {WITHHELD} ({one.reason})" for one in finding.withheld),
        "" if region is None else _extent(region),
    ]
    return ascii_text(f"{finding.label}: {'; '.join(filter(None, parts)) or 'no value'}")


def review_lines(context: ReportContext, zone: tzinfo | None) -> list[str]:
    """Return who verified the result, why and what was changed, line by line; nothing where nobody has."""
    review = context.review
    if review is None:
        return []
    reasons = [REVIEW_REASONS[reason] for reason in review.reasons]
    changes = [_change(one) for one in review.findings if one.is_changed]
    return [ascii_text(line) for line in (standing_of(context, zone), *reasons, review.text, *changes) if line]


def _change(reviewed: ReviewedFinding) -> str:
    was = "" if reviewed.said_by_model is None else f" The model had said: {said_of(reviewed.said_by_model)}."
    remark = f" {reviewed.text}" if reviewed.text else ""
    if reviewed.removed:
        return f"Removed: {reviewed.finding.label}.{was}{remark}"
    return f"{'Added' if reviewed.is_added else 'Changed'}: {said_of(reviewed.told)}.{was}{remark}"


def _extent(region: Region) -> str:
    columns, rows = zip(*region.points_xy_px, strict=True)
    return (
        f"outlined within columns {number(min(columns))} to {number(max(columns))} and rows {number(min(rows))} to "
        f"{number(max(rows))} of image {region.sop_instance_uid}"
    )


# --- the result in sentences -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultStatement:
    """What was found, in a sentence; `presence` sets its tone, and `caveat` says what it does not mean."""

    text: str
    presence: Presence
    caveat: str = ""


def verdict_on(findings: Sequence[Finding]) -> ResultStatement | None:
    """Return the result about what was looked for; `None` when nothing was, as in a mere measurement."""
    answered = [finding for finding in findings if finding.presence is not None]
    total = len(answered)
    present = sum(finding.presence is Presence.PRESENT for finding in answered)
    undetermined = sum(finding.presence is Presence.UNDETERMINED for finding in answered)
    if not answered:
        return None
    if present:
        return ResultStatement(f"{present} of {total} findings PRESENT", Presence.PRESENT)
    if undetermined:
        return ResultStatement(
            f"Nothing found, but {undetermined} of {total} findings UNDETERMINED", Presence.UNDETERMINED
        )
    looked_for = f"Looked for: {total} finding{'s' * (total > 1)}, listed below. Other disease is not excluded."
    return ResultStatement("NOTHING FOUND of what was looked for", Presence.ABSENT, looked_for)


def looked_at(answer: Analysis | NotAnalysed) -> str:
    """Return what was analysed, or given and not assessed, without a word about the patient.

    ``Looked at: 47 images, CT, series 3, kernel Br40, study of 2026-11-20``.
    """
    did = "Given and not assessed" if isinstance(answer, NotAnalysed) else "Looked at"
    return ascii_text(f"{did}: {', '.join([_counted(answer.sources), *_origin(answer.sources)])}")


def image_named(source: Dataset) -> str:
    """Return how a reader finds an image: side and view of a radiograph, series and image number."""
    laterality = text_of(source, "ImageLaterality") or text_of(source, "Laterality")
    view = " ".join(filter(None, (laterality, text_of(source, "ViewPosition"))))
    series, number_ = text_of(source, "SeriesNumber"), text_of(source, "InstanceNumber")
    parts = (view, f"series {series}" if series else "", f"image {number_}" if number_ else "")
    return ascii_text(", ".join(filter(None, parts)))


def text_of(source: Dataset, keyword: str) -> str:
    """Return the value of an attribute as text, the first of several; "" where there is none."""
    value = source.get(keyword)
    first = (value[0] if value else "") if isinstance(value, MultiValue) else value
    return "" if first is None else str(first).strip()


def _origin(sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield series, kernel and date of the study as far as the images tell them; no description, which people type and
    may have put a name into."""
    series = list(dict.fromkeys(filter(None, (text_of(one, "SeriesNumber") for one in sources))))
    if series:
        more = f" and {len(series) - _MOST_SERIES} more" if len(series) > _MOST_SERIES else ""
        yield f"series {', '.join(series[:_MOST_SERIES])}{more}"
    kernels = dict.fromkeys(filter(None, (text_of(one, "ConvolutionKernel") for one in sources)))
    if kernels:
        yield f"kernel {' / '.join(kernels)}"
    date = text_of(sources[0], "StudyDate") if sources else ""
    if _DATE.fullmatch(date):
        yield f"study of {date[:4]}-{date[4:6]}-{date[6:]}"


def _counted(sources: Sequence[Dataset]) -> str:
    objects = whole_objects(sources)
    count = len(sources)
    kinds = ", ".join(dict.fromkeys(str(source.get("Modality") or "?") for source in objects))
    frames = f"{count} frames of {len(objects)} object{'s' * (len(objects) > 1)}"
    images = f"{count} image{'s' * (count != 1)}" if len(objects) == count else frames
    return ", ".join(filter(None, (images, kinds)))


def state_of(model: ModelIdentity, context: ReportContext, zone: tzinfo | None = None) -> str:
    """Return how far the answer may be trusted; dates are by the clock of `zone`."""
    deployed = "research only" if context.intended_use == "research" else "decision support"
    scores = "calibrated" if model.calibrated else "not calibrated"
    verified = "Not verified: a physician must review the images."
    said = verified if context.review is None else standing_of(context, zone)
    return f"{said} Deployed for {deployed}. Model {scores}."
