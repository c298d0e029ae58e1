"""What is true of each image: a CSV with one line per image, or per folder that holds one series."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.core.errors import SettingsError

_IMAGE_COLUMNS = ("image", "file", "filename", "path")
_PATIENT_COLUMNS = ("patient", "patient_id", "PatientID")
#: Columns that say of a picture (PNG, JPEG) what its DICOM header would; those of the right are attributes themselves.
_ATTRIBUTES = {"age": "PatientAge", "sex": "PatientSex", "view": "ViewPosition"}
ATTRIBUTES = ("Modality", "PatientAge", "PatientSex", "ViewPosition", "BodyPartExamined", "StudyDate")
_POSITIVE = frozenset({"1", "1.0", "true", "yes", "positive", "present"})
#: What tools write where there is no value.
_NOTHING = frozenset({"", "nan", "na", "n/a", "null", "<na>"})
#: Words of labels that say neither yes nor no: nothing, or a reader, or a labeller of reports, who was not sure.
_NO_LABEL = _NOTHING | {"u", "uncertain", "unknown", "-1", "-1.0", "?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One line: `truth` is `None` where there is no label; `attributes` hold for pictures only."""

    name: str
    path: Path
    truth: bool | None
    patient: str
    groups: Mapping[str, str]
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How to read the CSV. `label` is the column of the truth; `positive` are the words that mean it is there."""

    label: str
    positive: frozenset[str]
    groups: Sequence[str] = ()
    patient: str = ""
    assumed: Mapping[str, str]


def columns_for(
    header: Sequence[str], finding: tuple[str, str], label: str, positive: Sequence[str]
) -> tuple[str, frozenset[str]]:
    """Choose the column of the truth and the words that mean yes for a finding of key and label.

    Raises `SettingsError`.
    """
    key, name = finding
    chosen = label or next((column for column in (key, "label", "labels") if column in header), "")
    if chosen not in header:
        raise SettingsError(f"The labels have no column {chosen or key!r}; they have {', '.join(header)}. Use --label.")
    words = positive or (*_POSITIVE, key, name)
    return chosen, frozenset(word.casefold() for word in words)


def header_of(path: Path) -> Sequence[str]:
    """Return the column names of a CSV. Raises `SettingsError`."""
    return list(_lines(path)[0])


def read_labels(path: Path, data: Path, columns: Columns) -> Sequence[LabelledImage]:
    """Read every line. Raises `SettingsError` for a missing column, an empty file, or a path outside the data."""
    lines = _lines(path)
    header = list(lines[0])
    image = _first(header, _IMAGE_COLUMNS)
    if not image:
        raise SettingsError(f"{path} has no column {' or '.join(_IMAGE_COLUMNS)} that names the image.")
    for column in (*columns.groups, *([columns.patient] if columns.patient else [])):
        if column not in header:
            raise SettingsError(f"{path} has no column {column!r}; it has {', '.join(header)}.")
    patient = columns.patient or _first(header, _PATIENT_COLUMNS)
    return [_image(line, (image, patient), data, columns) for line in lines]


def sampled(images: Sequence[LabelledImage], count: int, seed: int) -> Sequence[LabelledImage]:
    """Return a random sample in the order of the file; all when `count` is 0 or not smaller."""
    if not 0 < count < len(images):
        return images
    chosen = random.Random(seed).sample(range(len(images)), count)  # noqa: S311 - a sample, not a secret
    return [images[index] for index in sorted(chosen)]


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [
                {key: (value or "").strip() for key, value in line.items() if key} for line in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"Labels {path} cannot be read as CSV: {error}.") from error
    if not lines:
        raise SettingsError(f"Labels {path} have no line beside the header.")
    return lines


def _image(line: Mapping[str, str], who: tuple[str, str], data: Path, columns: Columns) -> LabelledImage:
    image, patient = who
    name = line[image]
    path = (data / name).resolve()
    if not name or not path.is_relative_to(data.resolve()):
        raise SettingsError(f"The labels name {name!r}, which does not lie in {data}.")
    return LabelledImage(
        name=name,
        path=path,
        truth=_truth(line[columns.label], columns.positive),
        patient=_patient(line[patient] if patient else "", name),
        groups={column: line[column] or "not stated" for column in columns.groups},
        attributes={**_attributes(line), **columns.assumed},
    )


def _truth(text: str, positive: frozenset[str]) -> bool | None:
    """An empty cell is no label, nor is one that says so; several words in one cell are parted by ``|``."""
    words = {word.strip().casefold() for word in text.split("|")}
    if words & positive:
        return True
    return None if words & (_NO_LABEL - {""}) or not words - {""} else False


def _patient(told: str, image: str) -> str:
    """An image of which nobody says whose it is counts as a patient of its own."""
    return image if told.casefold() in _NOTHING else told


def _attributes(line: Mapping[str, str]) -> dict[str, str]:
    found = {keyword: line[column] for column, keyword in _ATTRIBUTES.items() if line.get(column)}
    found |= {keyword: line[keyword] for keyword in ATTRIBUTES if line.get(keyword)}
    age = re.fullmatch(r"(\d{1,3})(\.0)?", found.get("PatientAge", ""))
    if age:
        found["PatientAge"] = f"{int(age[1]):03d}Y"
    return found


def _first(header: Sequence[str], wanted: Sequence[str]) -> str:
    return next((column for column in wanted if column in header), "")
