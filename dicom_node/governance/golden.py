"""Ask a model the questions whose answers are known, on this machine, and set what it says beside what it should."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.analysis.context import SourceFile
from dicom_node.core.entities import JobState, Presence
from dicom_node.core.errors import InferenceError, SettingsError
from dicom_node.governance.known_masks import Known, keep, of_images, of_segmentation
from dicom_node.governance.model_probe import Look, ModelProbe
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.fields import CardFields


@dataclass(frozen=True, slots=True)
class KnownStudy:
    """The images of a phantom, and masks (images, rows, columns) that are known of it by its formula."""

    images: Sequence[Dataset]
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


#: Makes a phantom from the arguments of a golden study.
Phantom = Callable[..., KnownStudy]


@dataclass(frozen=True, slots=True)
class GoldenOutcome:
    """What became of one golden study: no difference means that the answer was the expected one.

    `told` are sentences for whoever activates the model: how far the answer is from what is known, and what the model
    takes its input and output for.
    """

    name: str
    file: str
    differences: Sequence[str]
    answer: Mapping[str, Any]
    told: Sequence[str] = ()


def run_golden(
    card: ModelCard, phantoms: Mapping[str, Phantom], asker: ModelProbe, pictures: Path | None = None
) -> Sequence[GoldenOutcome]:
    """Ask every golden study of a model, and leave pictures of its answers in a folder, where one is named. Raises
    `SettingsError` for a study that cannot be made."""
    return [_run(case, phantoms, asker, pictures) for case in load_cases(card)]


def _run(case: GoldenCase, phantoms: Mapping[str, Phantom], asker: ModelProbe, pictures: Path | None) -> GoldenOutcome:
    with tempfile.TemporaryDirectory(prefix="golden-") as made:
        study = _phantom(case, phantoms) if case.folder is None else None
        files = list(files_in(case.folder) if case.folder else written(study.images if study else (), Path(made)))
        masks = keep({one.key: _known(one, case, study) for one in case.segments}, Path(made, "known.npz"))
        out_dir = Path(made, "out")
        out_dir.mkdir()
        try:
            answer = asker.ask(files, case.parameters, out_dir, Look(closer=True, masks=masks))
        except InferenceError as error:
            return GoldenOutcome(case.name, case.file, [str(error)], {})
        keep_pictures(out_dir, pictures, Path(case.file).stem)
    return GoldenOutcome(case.name, case.file, list(differences(case, answer)), answer, list(told_of(case, answer)))


def keep_pictures(made: Path, folder: Path | None, name: str) -> None:
    """Copy the pictures of one answer into the folder that was named for them."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(made.glob("*.png")):
            shutil.copyfile(path, folder / f"{name}-{path.name}")


def _phantom(case: GoldenCase, phantoms: Mapping[str, Phantom]) -> KnownStudy:
    if case.phantom not in phantoms:
        raise SettingsError(f"{case.file}: there is no phantom {case.phantom!r}; there are {', '.join(phantoms)}.")
    try:
        return phantoms[case.phantom](**case.arguments)
    except TypeError as error:
        raise SettingsError(f"{case.file}: phantom {case.phantom} cannot be made: {error}.") from error


def _known(expected: ExpectedSegment, case: GoldenCase, study: KnownStudy | None) -> Known:
    if expected.file is not None:
        return of_segmentation(expected.file, expected.number)
    if study is None or expected.truth not in study.masks:
        able = ", ".join(study.masks) if study else "none: name a SEG by file"
        raise SettingsError(f"{case.file}: the mask of {expected.key} is not known; those of the study are {able}.")
    return of_images(study.images, study.masks[expected.truth])


def written(datasets: Sequence[Dataset], folder: Path) -> Iterator[SourceFile]:
    """Write images into a folder."""
    for dataset in datasets:
        path = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        yield SourceFile(
            path=path,
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
        )


def files_in(folder: Path) -> Iterator[SourceFile]:
    """Return the DICOM images of a folder and those below it; other files are passed over."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, specific_tags=["SOPInstanceUID", "SeriesInstanceUID"], stop_before_pixels=True)
        except InvalidDicomError:
            continue
        yield SourceFile(
            path=path,
            sop_instance_uid=str(header.get("SOPInstanceUID", "")),
            series_instance_uid=str(header.get("SeriesInstanceUID", "")),
        )


# --- comparing ---------------------------------------------------------------------------------------------------


def differences(case: GoldenCase, answer: Mapping[str, Any]) -> Iterator[str]:
    """Tell of everything in an answer that is not as expected."""
    if answer["state"] != case.state:
        yield f"state is {answer['state']}{_because(answer)}, expected {case.state}"
        return
    if case.reason and answer.get("reason") != case.reason:
        yield f"reason is {answer.get('reason')}, expected {case.reason}"
    found = {finding["key"]: finding for finding in answer["findings"]}
    for expected in case.findings:
        if expected.key not in found:
            yield f"there is no finding {expected.key}; there are {', '.join(found) or 'none'}"
        else:
            yield from _finding_differences(expected, found[expected.key])

    for segment in case.segments:
        dice = answer.get("overlaps", {}).get(segment.key, 0.0)
        if dice < segment.dice:
            yield f"{segment.key} overlaps its known mask by a Dice of {dice:.4f}, expected {segment.dice:g} at least"
    for box in case.boxes:
        distance_mm = _distance_mm(box, answer)
        if not distance_mm <= box.within_mm:
            yield f"{box.key} {_far(distance_mm)} where it is known to be, expected {box.within_mm:g} mm at most"


def told_of(case: GoldenCase, answer: Mapping[str, Any]) -> Iterator[str]:
    """Say how far the answer is from what is known, right or wrong, and what the model understood."""
    for key, dice in answer.get("overlaps", {}).items():
        yield f"{key}: Dice {dice:.4f} with its known mask"
    for box in case.boxes:
        yield f"{box.key} {_far(_distance_mm(box, answer))} where it is known to be"
    yield from answer.get("understood", ())


def _distance_mm(box: ExpectedBox, answer: Mapping[str, Any]) -> float:
    """Return how far the nearest finding of a key is from where it is known to be, infinite where there is none.

    Several of one key are numbered: ``nodule-1``.
    """
    of_key = re.compile(rf"{re.escape(box.key)}(-\d+)?")
    centers = [center for key, center in answer.get("centers_mm", {}).items() if of_key.fullmatch(key)]
    return min((math.dist(center, box.center_mm) for center in centers), default=math.inf)


def _far(distance_mm: float) -> str:
    return f"is {distance_mm:.1f} mm from" if math.isfinite(distance_mm) else "is not"


def _because(answer: Mapping[str, Any]) -> str:
    return f" ({answer['reason']}: {answer['message']})" if answer.get("reason") else ""


def _finding_differences(expected: ExpectedFinding, found: Mapping[str, Any]) -> Iterator[str]:
    if expected.presence is not None and found["presence"] != expected.presence:
        yield f"{expected.key} is {found['presence']}, expected {expected.presence}"
    if expected.probability is not None:
        yield from _number(f"{expected.key} probability", expected.probability, found["probability"])
    measured = {one["label"]: one["value"] for one in found["measurements"]}
    for label, number in expected.measurements.items():
        yield from _number(f"{expected.key} {label}", number, measured.get(label))


def _number(what: str, expected: Expected, found: float | None) -> Iterator[str]:
    if found is None:
        yield f"{what} was not given, expected {expected.value:g} ± {expected.tolerance:g}"
    elif not expected.holds(found):
        yield f"{what} is {found:g}, expected {expected.value:g} ± {expected.tolerance:g}"


# --- the files: `golden/*.toml` --------------------------------------------------------------------------------------

_STATES = (JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE)


@dataclass(frozen=True, slots=True)
class Expected:
    """A number and how far from it the answer may be."""

    value: float
    tolerance: float

    def holds(self, value: float) -> bool:
        return abs(value - self.value) <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFinding:
    """What must be said of one finding; what is `None` or not listed is not looked at."""

    key: str
    presence: Presence | None
    probability: Expected | None
    measurements: Mapping[str, Expected]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSegment:
    """A structure whose mask is known: one of the phantom's by name (`truth`), or a segment of a SEG; and the smallest
    Dice coefficient that the answer may have with it."""

    key: str
    dice: float
    truth: str = ""
    file: Path | None = None
    number: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedBox:
    """A finding whose place in the patient is known, (x, y, z) in mm, and how far off its region may be."""

    key: str
    center_mm: tuple[float, ...]
    within_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCase:
    """One study with its answer. Either `phantom`, made with `arguments`, or `folder` is its input."""

    name: str
    file: str
    phantom: str
    arguments: Mapping[str, object]
    folder: Path | None
    parameters: Mapping[str, float]
    state: JobState
    reason: str
    findings: Sequence[ExpectedFinding]
    segments: Sequence[ExpectedSegment] = ()
    boxes: Sequence[ExpectedBox] = ()


def load_cases(card: ModelCard) -> Sequence[GoldenCase]:
    """Read every golden study of a model, by name of file. Raises `SettingsError` naming file and key."""
    return [_case(card, path) for path in sorted((card.folder / "golden").glob("*.toml"))]


def _case(card: ModelCard, path: Path) -> GoldenCase:
    try:
        fields = CardFields(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    study, expect = fields.table("study"), fields.table("expect")
    named = [key for key in ("phantom", "folder") if key in study.values]
    if len(named) != 1:
        study.refuse("phantom", "or folder must say what the study is, one of them")
    folder = card.folder / "golden" / study.inside(study.text("folder")) if named == ["folder"] else None
    if folder is not None and not folder.is_dir():
        study.refuse("folder", "does not exist")
    parameters = fields.table("parameters").numbers()
    card.effective_parameters(parameters)
    return GoldenCase(
        name=fields.text("name"),
        file=path.name,
        phantom=study.text("phantom") if folder is None else "",
        arguments=study.table("arguments").values,
        folder=folder,
        parameters=parameters,
        state=JobState(expect.choice("state", [state.value for state in _STATES])),
        reason=expect.text("reason") if "reason" in expect.values else "",
        findings=[_finding(one, card) for one in expect.subtables("finding")],
        segments=[_segment(one, card) for one in expect.subtables("segment")],
        boxes=[_box(one, card) for one in expect.subtables("box")],
    )


def _segment(fields: CardFields, card: ModelCard) -> ExpectedSegment:
    key, dice = fields.text("key"), fields.number("dice", None)
    _check_key(fields, key, [one.key for one in card.segments])
    if dice is None or not 0 < dice <= 1:
        fields.refuse("dice", "must be the smallest Dice coefficient that is right, above 0 and at most 1")
    if ("truth" in fields.values) == ("file" in fields.values):
        fields.refuse("truth", "(a mask of the phantom) or file (a SEG) must say what is known, one of them")
    if "truth" in fields.values:
        return ExpectedSegment(key=key, dice=dice, truth=fields.text("truth"))
    path = card.folder / "golden" / fields.inside(fields.text("file"))
    if not path.is_file():
        fields.refuse("file", "does not exist")
    return ExpectedSegment(key=key, dice=dice, file=path, number=fields.whole("number", 1))


def _box(fields: CardFields, card: ModelCard) -> ExpectedBox:
    key, within_mm = fields.text("key"), fields.number("within_mm", None)
    _check_key(fields, key, [one.key for one in card.findings])
    if within_mm is None or within_mm <= 0:
        fields.refuse("within_mm", "must be a number above 0")
    return ExpectedBox(key=key, center_mm=fields.floats("center_mm", (3,)), within_mm=within_mm)


def _check_key(fields: CardFields, key: str, known: Sequence[str]) -> None:
    if known and key not in known:
        fields.refuse("key", f"is {key!r}, which the card does not name; it names {', '.join(known)}")


def _finding(fields: CardFields, card: ModelCard) -> ExpectedFinding:
    key = fields.text("key")
    _check_key(fields, key, [finding.key for finding in card.findings])
    return ExpectedFinding(
        key=key,
        presence=Presence(fields.choice("presence", list(Presence))) if "presence" in fields.values else None,
        probability=_expected(fields.table("probability")) if "probability" in fields.values else None,
        measurements={one.text("label"): _expected(one) for one in fields.subtables("measurement")},
    )


def _expected(fields: CardFields) -> Expected:
    value, tolerance = fields.number("value", None), fields.number("tolerance", None)
    if value is None or tolerance is None or tolerance < 0:
        fields.refuse("value", "and tolerance must be numbers, the tolerance not negative")
    return Expected(float(value), float(tolerance))
