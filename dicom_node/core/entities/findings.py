"""What a model found: coded concepts, findings with their numbers and places, and which model it was."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Presence(StrEnum):
    """Whether a finding is there (DICOM CID 240); `UNDETERMINED` means the model could not tell."""

    PRESENT = "PRESENT"
    ABSENT = "ABSENT"
    UNDETERMINED = "UNDETERMINED"


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept: value, coding scheme designator (SCT, DCM, LN, UCUM …), meaning (at most 64 characters)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its concept and UCUM unit; never a bare float. `value` is already rounded for reporting.

    `derivation` says how one number came from many (mean, maximum …), TID 300 row "Derivation".
    """

    name: Code
    value: float
    unit: Code
    derivation: Code | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _plain(self.value))

    @property
    def label(self) -> str:
        """What people read: the derivation before the concept, ``Mean Attenuation Coefficient``."""
        return f"{self.derivation.meaning} {self.name.meaning}" if self.derivation else self.name.meaning


@dataclass(frozen=True, slots=True)
class Withheld:
    """A number that is not reported, in place of its `Measurement`: `reason` is a code of `reasons`, `message` says
    in a sentence which number of what is withheld and why."""

    name: Code
    reason: str
    message: str
    derivation: Code | None = None

    @property
    def label(self) -> str:
        """What people would have read, as `Measurement.label`."""
        return f"{self.derivation.meaning} {self.name.meaning}" if self.derivation else self.name.meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A closed polygon on one source image, in the image's own pixel coordinates.

    `points_xy_px` are (column, row) pairs with 0,0 at the outer corner of the first pixel (PS3.3 C.18.6.1.2);
    first and last point are equal. `frame_number` counts from 1 and is set where the image has many frames.
    """

    sop_instance_uid: str
    points_xy_px: tuple[tuple[float, float], ...]
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing the model evaluated: every class it looked at, present or not.

    `key` is stable across runs of the same model (``left-lung``, ``pneumonia``) and seeds the tracking UID.
    `probability` is the model's score, 0..1, `None` when it gives none; `score` names what that number is where it is
    neither a probability nor an output of a classifier, such as a rank among others. `segment_number` ties the finding
    to a mask. `withheld` are numbers that would stand among `measurements`, and must not. `explanation_key` names the
    picture (see `analysis.Picture.key`) that shows why.
    """

    key: str
    label: str
    code: Code
    site: Code
    laterality: Code | None = None
    presence: Presence | None = None
    probability: float | None = None
    threshold: float | None = None
    score: Code | None = None
    measurements: tuple[Measurement, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    region: Region | None = None
    segment_number: int | None = None
    explanation_key: str | None = None

    def __post_init__(self) -> None:
        for name in ("probability", "threshold"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None else _plain(number))


def _plain(number: float) -> float:
    """Return a number as Python's own: models give those of numpy, which JSON and HL7 do not know how to write."""
    return number if type(number) in (int, float) else float(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which algorithm answered; all of it is written into every object.

    `digest` is the sha256 over the model's weights and configuration; `device_uid` changes whenever it does
    (IHE AI Results). `parameters` are ``name=value`` texts such as ``threshold=0.5``.
    """

    name: str
    version: str
    manufacturer: str
    digest: str
    device_uid: str
    parameters: tuple[str, ...] = ()
    intended_use: str = ""
    limits: str = ""
    calibrated: bool = False
