"""One receiver of results of every kind: how a node is told of it, how it refuses, and what a reader sees there.

What is shown is read by the receiver's own means: its REST interface, its files, its messages. The results come of a
model that measures each image once (`tests.acceptance.counting_model`), so that every receiver shows a number.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import hl7
import pydicom
from pydicom import Dataset

from tests.peers.committing import CommittingPacs, running_committing_pacs
from tests.peers.fhir_server import FhirServer, running_fhir_server
from tests.peers.line import Break, Line, holds_message, holds_object, holds_written, running_line
from tests.peers.mllp import Hl7Receiver, running_receiver
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.webhook_receiver import SECRET, WebhookReceiver, running_webhook_receiver

SYSTEM = "urn:oid:2.25.4711"
#: Objects of a result that its report refers to: secondary captures and segmentations.
_MADE = {"1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.66.4"}
_UNIT = "[hnsf'U]"
_PATIENCE_S = 120.0


@dataclass(frozen=True, order=True)
class Shown:
    """A result that a reader takes for one that holds: whose it is, and of how many images; 0: not analysed.

    `but` says what is wrong with it, as far as the receiver shows that.
    """

    patient: str
    images: int
    but: str = ""


def shown(patient: str, images: int, text: str, but: str = "") -> Shown:
    """Return a result that is shown with this text, which must say so where there is nothing to count."""
    is_told = images or "not analysed" in text.lower()
    return Shown(patient, images, but or ("" if is_told else "it says nothing"))


@dataclass(frozen=True)
class SentStudy:
    """A study that was sent, by its UID, and the numbers that its patient has, first and after a correction."""

    uid: str
    number: str
    corrected: str

    @property
    def numbers(self) -> tuple[str, str]:
        return self.number, self.corrected


class Receiver(ABC):
    """One receiver, called by a line that can break."""

    name: ClassVar[str]
    #: Whether a reader sees there whose result it is.
    names_patients: ClassVar[bool] = True
    line: Line

    @abstractmethod
    def destination(self) -> dict[str, Any]:
        """Return its settings at the node, without name."""

    @abstractmethod
    def shown(self, study: SentStudy) -> list[Shown]:
        """Return what holds there of a study."""

    def admit(self, study: SentStudy) -> None:  # noqa: B027 - most ask nobody who a patient is
        """Know the patient, under both numbers."""

    @abstractmethod
    def refuse(self, *, for_good: bool) -> None:
        """Refuse all that is sent from now on."""

    @property
    def refused(self) -> bool:
        """Tell whether it has refused anything since it was asked to."""
        return self.line.results > self._results_before

    _results_before: int = 0

    def breaks(self, where: Break) -> None:
        """Break the line to it at the next result."""
        self.line.breaks(where)

    def wait_until_broken(self) -> None:
        assert self.line.reached.wait(_PATIENCE_S), f"the line to {self.name} was never used"

    def let_answer_through(self) -> None:
        """Let the node have the answer that is held back, and wait until it is on its way."""
        self.line.let_answer_through()
        assert self.line.heard.wait(_PATIENCE_S), f"the answer of {self.name} was never held back"

    def mend(self) -> None:
        """Be well again."""
        self.line.mend()


class _Web(Receiver):
    """A receiver that is called by HTTP; what stands before it refuses."""

    def refuse(self, *, for_good: bool) -> None:
        self._results_before = self.line.results
        status = b"422 Unprocessable Content" if for_good else b"503 Service Unavailable"
        self.line.answers = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


# --- by FHIR -----------------------------------------------------------------------------------------------------


class _Fhir(_Web):
    costume: ClassVar[Mapping[str, object]] = {}
    preset: ClassVar[str] = "base"

    def __init__(self, stack: ExitStack, _folder: Path) -> None:
        self.server: FhirServer = stack.enter_context(running_fhir_server())
        self.server.set(**self.costume)
        self.line = stack.enter_context(running_line(int(urlsplit(self.server.url).port or 0), holds_written))

    def destination(self) -> dict[str, Any]:
        return {"kind": "fhir", "url": f"http://127.0.0.1:{self.line.port}/fhir/R4", "preset": self.preset}

    def admit(self, study: SentStudy) -> None:
        for number in study.numbers:
            self.server.add_patient(SYSTEM, number)

    def shown(self, study: SentStudy) -> list[Shown]:
        return sorted(one for number in study.numbers for one in self._of_patient(number))

    def _of_patient(self, number: str) -> Iterator[Shown]:
        (patient,) = self._found("Patient", identifier=f"{SYSTEM}|{number}")
        subject = f"Patient/{patient['id']}"
        reports = [one for one in self._found("DiagnosticReport", subject=subject) if one["status"] == "preliminary"]
        current = {
            f"Observation/{one['id']}": one
            for one in self._found("Observation", subject=subject)
            if one["status"] == "preliminary"
        }
        for report in reports:
            told = [current.pop(one["reference"], None) for one in report.get("result", ())]
            count = sum("valueQuantity" in part for one in told if one for part in one.get("component", ()))
            yield shown(number, count, json.dumps(report), "an Observation does not hold" if None in told else "")
        if current:
            yield Shown(number, len(current), "Observations of no report")

    def _found(self, kind: str, **query: str) -> list[dict[str, Any]]:
        answer = self.server.http.get(f"{self.server.url}/{kind}", params={"_count": "500", **query})
        return [one["resource"] for one in answer.raise_for_status().json().get("entry", ())]


class FhirTransaction(_Fhir):
    name = "fhir-transaction"


class FhirOneByOne(_Fhir):
    name = "fhir-one-by-one"
    costume: ClassVar[Mapping[str, object]] = {"transactions": False}


class FhirDocuments(_Fhir):
    name = "fhir-documents"
    preset = "documents"
    costume: ClassVar[Mapping[str, object]] = {
        "notOffered": ["DiagnosticReport", "Observation", "Device", "Endpoint", "ImagingStudy", "Provenance"]
    }

    def _of_patient(self, number: str) -> Iterator[Shown]:
        (patient,) = self._found("Patient", identifier=f"{SYSTEM}|{number}")
        for one in self._found("DocumentReference", subject=f"Patient/{patient['id']}"):
            if one["status"] == "current":
                yield shown(number, one["text"]["div"].count("Hounsfield unit"), one["text"]["div"])


# --- by HL7 v2 ---------------------------------------------------------------------------------------------------


class Hl7(Receiver):
    name = "hl7"

    def __init__(self, stack: ExitStack, _folder: Path) -> None:
        self.server: Hl7Receiver = stack.enter_context(running_receiver())
        self.line = stack.enter_context(running_line(self.server.port, holds_message))

    def destination(self) -> dict[str, Any]:
        return {"kind": "hl7", "host": "127.0.0.1", "port": self.line.port, "replacement": "C", "withdrawal": "W"}

    def refuse(self, *, for_good: bool) -> None:
        self._results_before = self.line.results
        self.server.behaviour.extend(["AR" if for_good else "AE"] * 10_000)

    def mend(self) -> None:
        self.server.behaviour.clear()
        super().mend()

    def shown(self, study: SentStudy) -> list[Shown]:
        chart: dict[tuple[str, str], hl7.Message] = {}
        for text in self.server.accepted:
            message = hl7.parse(text)
            number = str(message.segment("PID")[3]).split("^")[0]
            if number in study.numbers:
                chart[number, str(message.segment("OBR")[3])] = message
        return sorted(
            shown(number, sum(_UNIT in str(row[6]) for row in message.segments("OBX") if len(row) > 6), str(message))
            for (number, _), message in chart.items()
            if "WITHDRAWN" not in str(message)
        )


# --- by events ---------------------------------------------------------------------------------------------------


class Webhook(_Web):
    name = "webhook"
    names_patients = False

    def __init__(self, stack: ExitStack, _folder: Path) -> None:
        self.server: WebhookReceiver = stack.enter_context(running_webhook_receiver())
        self.line = stack.enter_context(running_line(self.server.port, holds_written))

    def destination(self) -> dict[str, Any]:
        return {"kind": "webhook", "url": f"http://127.0.0.1:{self.line.port}/events", "secret": SECRET}

    def shown(self, study: SentStudy) -> list[Shown]:
        mine = [one for one in self.server.taken() if one["data"].get("study_instance_uid") == study.uid]
        over = {one["data"]["result"] for one in mine if one["type"] in {"result.superseded", "result.withdrawn"}}
        named = "it names the patient" if any(number in json.dumps(mine) for number in study.numbers) else ""
        return sorted(
            Shown("", one["data"].get("findings", {}).get("evaluated", 0), named)
            for one in mine
            if one["type"] in {"result.made", "result.not_analysed"} and one["data"]["result"] not in over
        )


# --- DICOM objects -----------------------------------------------------------------------------------------------


def shown_by(objects: Iterable[Dataset]) -> list[Shown]:
    """Return what the reports among DICOM objects show: none that another names as its predecessor."""
    there = {str(one.SOPInstanceUID): one for one in objects}
    reports = [one for one in there.values() if one.Modality == "SR"]
    replaced = {uid for one in reports for uid in _referenced(one.get("PredecessorDocumentsSequence", ()))}
    return sorted(
        shown(str(one.PatientID), len(_numbers(one)), str(one), _lack(one, there))
        for one in reports
        if one.SOPInstanceUID not in replaced and "WITHDRAWN" not in one.SeriesDescription
    )


def _referenced(studies: Iterable[Dataset], classes: Collection[str] = ()) -> list[str]:
    """Return the UIDs that a sequence refers to, of all SOP classes or of these."""
    series = [one for study in studies for one in study.ReferencedSeriesSequence]
    items = [item for one in series for item in one.ReferencedSOPSequence]
    return [str(one.ReferencedSOPInstanceUID) for one in items if not classes or one.ReferencedSOPClassUID in classes]


def _numbers(item: Dataset) -> list[Dataset]:
    measured = item.MeasuredValueSequence[0] if item.get("ValueType") == "NUM" else Dataset()
    own = [item] if _UNIT in str(measured.get("MeasurementUnitsCodeSequence", "")) else []
    return own + [number for child in item.get("ContentSequence", ()) for number in _numbers(child)]


def _lack(report: Dataset, there: Mapping[str, Dataset]) -> str:
    evidence = report.get("CurrentRequestedProcedureEvidenceSequence", ())
    absent = [uid for uid in _referenced(evidence, _MADE) if uid not in there]
    others = [uid for uid in _referenced(evidence, _MADE) if uid in there and there[uid].PatientID != report.PatientID]
    return "what it refers to is absent" if absent else "what it refers to is another patient's" if others else ""


class _Pacs(CommittingPacs):
    """A PACS that keeps only what it has not refused."""

    def on_store(self, event: Any) -> int:
        return self.store_status or super().on_store(event)


class Dicom(Receiver):
    name = "dicom"

    def __init__(self, stack: ExitStack, _folder: Path) -> None:
        self.pacs = stack.enter_context(running_committing_pacs(_Pacs(finds=False, commits=False)))
        self.line = stack.enter_context(running_line(self.pacs.port, holds_object))

    def destination(self) -> dict[str, Any]:
        return {"kind": "dicom", "ae_title": self.pacs.aet, "host": "127.0.0.1", "port": self.line.port}

    def refuse(self, *, for_good: bool) -> None:
        self._results_before = self.line.results
        self.pacs.store_status = 0xC000 if for_good else 0xA700

    def mend(self) -> None:
        self.pacs.store_status = 0x0000
        super().mend()

    def shown(self, study: SentStudy) -> list[Shown]:
        return shown_by(one for one in list(self.pacs.stored.values()) if one.StudyInstanceUID == study.uid)


class DicomWeb(_Web):
    name = "dicomweb"

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        (folder / "orthanc").mkdir(parents=True)
        self.pacs: Orthanc = stack.enter_context(running_orthanc(folder / "orthanc"))
        self.line = stack.enter_context(running_line(self.pacs.http_port, holds_written))

    def destination(self) -> dict[str, Any]:
        return {"kind": "dicomweb", "url": f"http://127.0.0.1:{self.line.port}/dicom-web"}

    def shown(self, study: SentStudy) -> list[Shown]:
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study.uid}}
        return shown_by(self.pacs.dataset(one) for one in self.pacs.post("/tools/find", query))


class Folder(Receiver):
    """A folder; it is away while a file is in its place. What is written there nobody answers, so nothing is held."""

    name = "folder"

    def __init__(self, _stack: ExitStack, folder: Path) -> None:
        self.path = folder / "results"
        self._aside = folder / "elsewhere"
        self.path.mkdir(parents=True)

    def destination(self) -> dict[str, Any]:
        return {"kind": "folder", "path": str(self.path)}

    def refuse(self, *, for_good: bool) -> None:  # noqa: ARG002 - it has one way only
        """Be no folder, whatever is asked: a folder refuses nothing for good."""
        self.path.rename(self._aside)
        self.path.write_bytes(b"")

    def breaks(self, where: Break) -> None:  # noqa: ARG002 - as `refuse`
        """Be away, whatever is asked: what comes when it is back is what breaks."""
        self.refuse(for_good=False)

    def mend(self) -> None:
        if self.path.is_file():
            self.path.unlink()
            self._aside.rename(self.path)

    def names(self) -> set[str]:
        """Return the names of all that was ever written there, hidden ones too."""
        return {one.name for one in (self.path if self.path.is_dir() else self._aside).iterdir()}

    def objects(self) -> set[str]:
        """Return the UIDs of the objects that have their names."""
        whole = [name for name in self.names() if name[0] != "." and not name.endswith(".dcm.json")]
        return {name.split("-", 1)[1].rpartition(".")[0] for name in whole}

    def shown(self, study: SentStudy) -> list[Shown]:
        return sorted(self._told(study))

    def _told(self, study: SentStudy) -> Iterator[Shown]:
        for path in sorted(self.path.glob("SR-*.dcm")):
            one = pydicom.dcmread(path)
            if one.StudyInstanceUID != study.uid:
                continue
            beside = path.with_name(f"{path.name}.json")
            if not beside.exists():
                yield Shown(str(one.PatientID), len(_numbers(one)), "it has no sidecar")
                continue
            told = json.loads(beside.read_text(encoding="utf-8"))
            if told["standing"] == "CURRENT" and not told["takes_back"]:
                yield shown(str(one.PatientID), len(_numbers(one)), str(one))


KINDS: Sequence[type[Receiver]] = (
    FhirTransaction, FhirOneByOne, FhirDocuments, Hl7, Webhook, Folder, Dicom, DicomWeb,
)  # fmt: skip


@contextmanager
def running_receivers(folder: Path) -> Iterator[dict[str, Receiver]]:
    """Run one receiver of every kind; gives them by name."""
    with ExitStack() as stack:
        yield {kind.name: kind(stack, folder / kind.name) for kind in KINDS}  # type: ignore[call-arg]
