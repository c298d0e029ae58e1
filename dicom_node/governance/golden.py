"""Ask a model the questions whose answers are known, on this machine, and set what it says beside what it should."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.analysis.answer import SourceFile
from dicom_node.core.entities import JobState, Presence
from dicom_node.core.errors import InferenceError, SettingsError
from dicom_node.governance.model_probe import ModelProbe
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.fields import CardFields

#: Makes the images of a phantom from the arguments of a golden study.
Phantom = Callable[..., Sequence[Dataset]]


@dataclass(frozen=True, slots=True)
class GoldenOutcome:
    """What became of one golden study: no difference means that the answer was the expected one."""

    name: str
    file: str
    differences: Sequence[str]
    answer: Mapping[str, Any]


def run_golden(card: ModelCard, phantoms: Mapping[str, Phantom], asker: ModelProbe) -> Sequence[GoldenOutcome]:
    """Ask every golden study of a model. Raises `SettingsError` for a study that cannot be made."""
    return [_run(case, phantoms, asker) for case in load_cases(card)]


def _run(case: GoldenCase, phantoms: Mapping[str, Phantom], asker: ModelProbe) -> GoldenOutcome:
    with tempfile.TemporaryDirectory(prefix="golden-") as made:
        files = list(_files(case, phantoms, Path(made)))
        out_dir = Path(made, "out")
        out_dir.mkdir()
        try:
            answer = asker.ask(files, case.parameters, out_dir)
        except InferenceError as error:
            return GoldenOutcome(case.name, case.file, [str(error)], {})
    return GoldenOutcome(case.name, case.file, list(differences(case, answer)), answer)


def _files(case: GoldenCase, phantoms: Mapping[str, Phantom], folder: Path) -> Iterator[SourceFile]:
    if case.folder is not None:
        yield from files_in(case.folder)
        return
    if case.phantom not in phantoms:
        raise SettingsError(f"{case.file}: there is no phantom {case.phantom!r}; there are {', '.join(phantoms)}.")
    try:
        datasets = phantoms[case.phantom](**case.arguments)
    except TypeError as error:
        raise SettingsError(f"{case.file}: phantom {case.phantom} cannot be made: {error}.") from error
    yield from written(datasets, folder)


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
    )


def _finding(fields: CardFields, card: ModelCard) -> ExpectedFinding:
    key = fields.text("key")
    known = [finding.key for finding in card.findings]
    if known and key not in known:
        fields.refuse("key", f"is {key!r}, which the card does not name; it names {', '.join(known)}")
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
