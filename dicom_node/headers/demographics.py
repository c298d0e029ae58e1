"""Who the patient of a stored object is, read in a process with limits when somebody asks, and kept nowhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydicom import dcmread

from dicom_node.core.errors import InferenceError, WorkerDied
from dicom_node.headers.patient import said_in
from dicom_node.logs import quiet_third_parties
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_LIMITS = ProcessLimits(time_s=20.0, address_space_mb=2048)
_KEYWORDS = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "AccessionNumber",
)  # fmt: skip
_LONGEST = 324  # three groups of a PN, each of 64 letters in five components
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demographics:
    """Who a patient is by the word of an image; `birth_date` is a DICOM DA, `sex` M, F or O. What is not said is ""."""

    name: str = ""
    patient_id: str = ""
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""


class DemographicsReader:
    """Reads stored objects in a child process that starts with the first. Safe to share between threads."""

    def __init__(self) -> None:
        self._sandbox = Sandbox(
            "dicom_node.headers.demographics:read_demographics", answer=list[Demographics | None], limits=_LIMITS
        )

    def warm_up(self) -> None:
        """Start the child process in the background, so that the first page need not wait for it."""
        threading.Thread(target=self._run_empty, name="demographics", daemon=True).start()

    def _run_empty(self) -> None:
        with suppress(WorkerDied, InferenceError):  # the node stops meanwhile; or the first page tells
            self._sandbox.run([])

    def read(self, paths: Sequence[Path]) -> list[Demographics | None]:
        """Return whose each object is; `None` for one that is not there or that nobody can read. Never raises."""
        if not paths:
            return []
        try:
            return cast("list[Demographics | None]", self._sandbox.run(list(paths)))
        except (WorkerDied, InferenceError) as error:
            if len(paths) == 1:
                _log.error("a header broke its reader", extra={"why": str(error)})
                return [None]
            return [one for path in paths for one in self.read([path])]

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()


def read_demographics(paths: Sequence[Path]) -> list[Demographics | None]:
    """Read headers; runs in the child process."""
    quiet_third_parties()
    return [_read(path) for path in paths]


def _read(path: Path) -> Demographics | None:
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(_KEYWORDS), force=True)
    except Exception:  # noqa: BLE001 - the door to a stranger's bytes: whatever breaks, nobody is named
        return None
    said = {keyword: _plain(text) for keyword, text in said_in(header).items()}
    sex = _plain(str(header.get("PatientSex") or ""))
    return Demographics(
        name=said["PatientName"], patient_id=said["PatientID"], issuer=said["IssuerOfPatientID"],
        birth_date=said["PatientBirthDate"], sex=sex, accession_number=said["AccessionNumber"],
    )  # fmt: skip


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()[:_LONGEST]
