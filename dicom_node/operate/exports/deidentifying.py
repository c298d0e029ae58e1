"""One object without its patient, made in a process with limits: a stranger's object breaks only that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from pydicom import dcmread

from dicom_node.core.errors import CannotClean, InferenceError, WorkerDied
from dicom_node.deidentification.dataset import deidentify
from dicom_node.deidentification.pixels import why_not_exported
from dicom_node.deidentification.profile import DeidentificationProfile
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.logs import quiet_third_parties
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_LIMITS = ProcessLimits(time_s=120.0, address_space_mb=8192)
UNREADABLE = "it cannot be read"
_BROKE = "taking its patient away ended the process that did so"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentificationRequest:
    """Which file, by which profile and under which key, and where the outcome goes."""

    path: Path
    profile: DeidentificationProfile
    key: bytes
    target: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Deidentified:
    """The names that an object has without its patient; or `why_not`, which repeats no value."""

    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    why_not: str = ""


class Deidentifying:
    """Takes the patients out of objects, one at a time; `file` holds the last, and is gone with the block."""

    def __init__(self, profile: DeidentificationProfile, key: bytes, folder: Path) -> None:
        self.file = folder / "object.dcm"
        self._profile, self._key = profile, key
        self.sandbox = Sandbox(
            "dicom_node.operate.exports.deidentifying:deidentified", answer=Deidentified, limits=_LIMITS
        )

    def take(self, path: Path) -> Deidentified:
        """Write what an object is without its patient into `file`, or tell why it is not."""
        wanted = DeidentificationRequest(path=path, profile=self._profile, key=self._key, target=self.file)
        try:
            return cast(Deidentified, self.sandbox.run(wanted))
        except (WorkerDied, InferenceError):
            return Deidentified(why_not=_BROKE)


@contextmanager
def deidentifying(profile: DeidentificationProfile, key: bytes, beside: Path | None = None) -> Iterator[Deidentifying]:
    """Give what takes patients out of objects, while the block runs; its file lies in a folder that is made `beside`
    what is already there, or where the system keeps what is soon gone."""
    with TemporaryDirectory(prefix=".dicom-node-export-", dir=beside) as folder:
        one = Deidentifying(profile, key, Path(folder))
        with one.sandbox:
            yield one


def deidentified(wanted: DeidentificationRequest) -> Deidentified:
    """Make one; runs in the child process."""
    quiet_third_parties()
    try:
        dataset = dcmread(wanted.path)
        if why_not := why_not_exported(dataset, wanted.profile):
            return Deidentified(why_not=why_not)
        deidentify(dataset, wanted.profile, wanted.key)
        dataset.save_as(wanted.target, enforce_file_format=True)
    except CannotClean as error:
        return Deidentified(why_not=str(error))
    except READ_ERRORS:
        return Deidentified(why_not=UNREADABLE)
    return Deidentified(
        study_instance_uid=str(dataset.StudyInstanceUID), series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
    )  # fmt: skip
