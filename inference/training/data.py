"""Labelled radiographs from a folder or tar archive, and their split by patient.

File names carry label and patient, as published by Kermany et al. (Mendeley Data 10.17632/rscbjbr9sj):
``NORMAL__IM-0270-0001.jpeg``, ``NORMAL__NORMAL2-IM-0981-0001.jpeg``, ``PNEUMONIA__person415_bacteria_1838.jpeg``.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_NAME = re.compile(r"(?P<label>NORMAL|PNEUMONIA)__.*?(?P<patient>IM-\d+|person\d+)[-_]")
_SUFFIXES = {".jpeg", ".jpg", ".png"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiograph:
    """One labelled image: `pixels` is uint8, (rows, columns), bright = dense tissue."""

    name: str
    patient: str
    has_pneumonia: bool
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three sets with no patient in common."""

    training: tuple[Radiograph, ...]
    validation: tuple[Radiograph, ...]
    test: tuple[Radiograph, ...]


def read_radiographs(source: Path) -> list[Radiograph]:
    """Read every labelled image of a folder or tar archive, in order of file name.

    Raises `ValueError` for a file name without label and patient: a guess would leak patients between the sets.
    """
    radiographs = [_radiograph(name, content) for name, content in _files(source)]
    if not radiographs:
        raise ValueError(f"{source} holds no .jpeg, .jpg or .png file; point --data at the labelled radiographs.")
    return sorted(radiographs, key=lambda radiograph: radiograph.name)


def patient_of(file_name: str) -> str:
    """Return the patient a file name speaks of.

    Numbers shared by the bacterial and the viral list, or by the two lists of normals, count as one patient:
    nothing published says that they are not.
    """
    return _parsed(file_name)["patient"]


def split_by_patient(
    radiographs: Iterable[Radiograph], *, seed: int, validation_share: float = 0.15, test_share: float = 0.15
) -> Split:
    """Split so that no patient is in two sets and each set has its share of the patients of each label."""
    by_patient: dict[str, list[Radiograph]] = {}
    for radiograph in radiographs:
        by_patient.setdefault(radiograph.patient, []).append(radiograph)
    ill = {patient for patient, images in by_patient.items() if any(image.has_pneumonia for image in images)}

    sets: tuple[list[Radiograph], ...] = ([], [], [])
    for stratum in (sorted(ill), sorted(by_patient.keys() - ill)):
        Random(seed).shuffle(stratum)  # noqa: S311 - a reproducible split, not a secret
        first_test = round(len(stratum) * validation_share)
        first_training = first_test + round(len(stratum) * test_share)
        parts = (stratum[first_training:], stratum[:first_test], stratum[first_test:first_training])
        for chosen, patients in zip(sets, parts, strict=True):
            chosen.extend(image for patient in patients for image in by_patient[patient])
    return Split(training=tuple(sets[0]), validation=tuple(sets[1]), test=tuple(sets[2]))


def _parsed(file_name: str) -> re.Match[str]:
    match = _NAME.match(file_name)
    if match is None:
        raise ValueError(
            f"{file_name!r} does not say label and patient; expected a name such as "
            "NORMAL__IM-0270-0001.jpeg or PNEUMONIA__person415_bacteria_1838.jpeg."
        )
    return match


def _radiograph(name: str, content: bytes) -> Radiograph:
    parsed = _parsed(name)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    return Radiograph(name=name, patient=parsed["patient"], has_pneumonia=parsed["label"] == "PNEUMONIA", pixels=pixels)


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in source.rglob("*"):
            if path.suffix.lower() in _SUFFIXES:
                yield path.name, path.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in archive:
            path = Path(member.name)
            stream = archive.extractfile(member) if path.suffix.lower() in _SUFFIXES else None
            if stream is not None:
                yield path.name, stream.read()
