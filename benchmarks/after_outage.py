"""How long it takes until everything has arrived, when receivers of five kinds were away and are back at once.

    python -m benchmarks.after_outage [--results 500] [--minutes 480] [--quick] [--json FILE]

Results are put into an index as the node puts them, in four priorities: each a report and a segmentation for the PACS
(DCMTK's storescp), a FHIR report for the EHR (a strict R4 server), an HL7 v2 message for the RIS (an MLLP listener), an
event for the webhook (a receiver that verifies it), and the report and the segmentation again for a folder. Nobody is
there; then the outbox's clock is moved ahead by the time they are away for, and all come back in the same moment, each
to a thread of one node with SQLite. Seconds count from there, so that they include how long the node does not notice.
Order and "once" are read at the receivers.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import hl7
import pydicom
from sqlalchemy import func, select

from benchmarks.command_line import keep, parser_of
from benchmarks.results import answer_of_a_volume
from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import (
    Artifact,
    ArtifactKind,
    Destination,
    Instance,
    InstanceRole,
    JobOutcome,
    JobState,
    MediaType,
    SendingPeer,
    StudyState,
)
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.priority import Priority
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Caller, DestinationKind
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.hl7.message import build_message, control_id
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.fhir.options import FhirOptions
from dicom_node.index import jobs
from dicom_node.index.database import Database
from dicom_node.index.notices import Subscriber
from dicom_node.index.outbox.notifications import subscribe
from dicom_node.index.received.arrivals import add_instance
from dicom_node.index.results import save_result
from dicom_node.index.studies import NewJob, add_jobs, load_study
from dicom_node.index.tables import deliveries, notifications, results
from dicom_node.index.transitions import Change, move_study
from dicom_node.roles.settings import SiteSettings
from dicom_node.sr_writer import to_part10, write_objects
from dicom_node.storage.spool import Spool
from tests.peers.dcmtk import running_storescp
from tests.peers.fhir_server import FhirServer, running_fhir_server
from tests.peers.mllp import running_receiver
from tests.peers.process import free_port, wait_until
from tests.peers.webhook_receiver import SECRET, running_webhook_receiver

_SEED = 20261129
_OUTPUTS = OutputSet(secondary_capture=False)
#: As by default.
_BACK_OFF = BackOff(5.0, 600.0)
_PATIENCE_S = 3600.0
_SHARES = {Priority.STAT: 1, Priority.HIGH: 2, Priority.ROUTINE: 5, Priority.LOW: 2}
_ROUTE, _MODEL = "chest-ct", "benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What became of what waited for one receiver: seconds from its return to the first and to the last of it."""

    receiver: str
    results: int
    objects: int
    first_s: float
    last_s: float
    came_twice: int
    out_of_order: int


class Owed:
    """An index and a spool that owe results to the destinations `pacs`, `ehr`, `ris`, `hook` and `files`."""

    #: What each destination but the webhook takes.
    takes: Mapping[str, MediaType] = {
        "pacs": MediaType.DICOM, "ehr": MediaType.FHIR, "ris": MediaType.HL7, "files": MediaType.DICOM,
    }  # fmt: skip

    def __init__(self, folder: Path, count: int) -> None:
        self.database = Database(f"sqlite:///{folder / 'node.sqlite'}")
        self.database.migrate()
        self.spool = Spool(folder / "spool")
        with self.database.write() as connection:
            subscribe(connection, [Subscriber("hook")])
        chance, answer = random.Random(_SEED), answer_of_a_volume(8, 32)  # noqa: S311 - the same order in every run
        priorities = chance.choices(list(_SHARES), weights=list(_SHARES.values()), k=count)
        #: Study Instance UIDs in the order in which their results are to leave.
        studies = [self.add(number, priority, answer) for number, priority in enumerate(priorities)]
        places = sorted(range(count), key=lambda one: (list(Priority).index(priorities[one]), one))
        self.order = [studies[place] for place in places]

    def add(self, number: int, priority: Priority, answer: Analysis) -> str:
        """Take one study through the index to its result; return its UID."""
        study, at = derived_uid("after-outage", str(number)), datetime.now(UTC)
        written, bundle, message = _made(answer, study, number)
        with self.database.write() as connection:
            add_instance(connection, _image(study, at))
            found = load_study(connection, study, lock=True)
            assert found is not None
            due = NewJob(
                route=_ROUTE, model=_MODEL, series_instance_uid=found.series[0].series_instance_uid,
                study_partial=False, decision={}, reason="Complete.", priority=priority,
            )  # fmt: skip
            add_jobs(connection, found, [due], at)
            move_study(connection, study, StudyState.COMPLETE, Change(at))
            job = jobs.claim(connection, "benchmark:1", at + timedelta(seconds=1), 60.0)
            assert job is not None
            outcome = JobOutcome(
                state=JobState.DONE, summary={"finished_at": at.isoformat(), "findings": []},
                artifacts=(
                    *(self._kept(one) for one in written),
                    self._kept_text(derived_uid("bundle", study), ArtifactKind.FHIR_BUNDLE, MediaType.FHIR, bundle),
                    self._kept_text(_message_uid(study), ArtifactKind.HL7_MESSAGE, MediaType.HL7, message),
                ),
            )  # fmt: skip
            to = [Destination(name=name, takes=frozenset({taken})) for name, taken in self.takes.items()]
            assert save_result(connection, job, f"{number:064x}", outcome, to)
        return study

    def _kept(self, written: WrittenObject) -> Artifact:
        stored, dataset = self.spool.put([to_part10(written.dataset)], ".result"), written.dataset
        return Artifact(
            uid=str(dataset.SOPInstanceUID), kind=written.kind, media_type=MediaType.DICOM, object_key=stored.key,
            sha256=stored.sha256, size_bytes=stored.size_bytes, order=written.order,
            sop_class_uid=str(dataset.SOPClassUID), series_instance_uid=str(dataset.SeriesInstanceUID),
        )  # fmt: skip

    def _kept_text(self, uid: str, kind: ArtifactKind, media_type: MediaType, content: bytes) -> Artifact:
        stored = self.spool.put([content], ".text")
        return Artifact(
            uid=uid, kind=kind, media_type=media_type, object_key=stored.key, sha256=stored.sha256,
            size_bytes=stored.size_bytes, order=9,
        )  # fmt: skip

    def studies_of_messages(self) -> dict[str, str]:
        """Return the study of each HL7 message, by the number that the message has (MSH-10)."""
        return {control_id(_message_uid(study)): study for study in self.order}

    def waiting(self, destination: str) -> int:
        """Return how much is still owed to a destination."""
        table = notifications if destination == "hook" else deliveries
        pending = (table.c.destination == destination, table.c.state != "SENT")
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table).where(*pending)).scalar_one())

    def sent(self, destination: str) -> list[tuple[str, datetime]]:
        """Return the studies of which something arrived there, and when, in that order."""
        if destination == "hook":
            query = select(notifications.c.study_instance_uid, notifications.c.sent_at)
            query = query.where(notifications.c.destination == destination).order_by(notifications.c.sent_at)
        else:
            query = select(results.c.study_instance_uid, deliveries.c.sent_at)
            query = query.join(deliveries, deliveries.c.job_key == results.c.job_key)
            query = query.where(deliveries.c.destination == destination).order_by(deliveries.c.sent_at)
        with self.database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]


def _image(study: str, at: datetime) -> Instance:
    name = derived_uid("image", study)
    return Instance(
        sop_instance_uid=name, sop_class_uid="1.2.840.10008.5.1.4.1.1.2", transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=study, series_instance_uid=derived_uid("series", study),
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        size_bytes=526336, object_key=name, role=InstanceRole.SOURCE, attributes={"modality": "CT"}, received_at=at,
        sender=SendingPeer("CT1", "AINODE", "127.0.0.1"),
    )  # fmt: skip


def _message_uid(study: str) -> str:
    return derived_uid("message", study)


def _made(answer: Analysis, study: str, number: int) -> tuple[Sequence[WrittenObject], bytes, bytes]:
    """Return the objects of a result of this study, its FHIR transaction, and its HL7 message."""
    sources = []
    for source in answer.sources:
        mine = pydicom.Dataset(source)
        mine.file_meta, mine.StudyInstanceUID = source.file_meta, study
        sources.append(mine)
    context = ReportContext(
        job_key=f"{number:064x}", route_name=_ROUTE, started_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
        ae_title="AINODE", node_uid=derived_uid("node", "benchmark"), output_sets=(_OUTPUTS,),
    )  # fmt: skip
    told, options = replace(answer, sources=tuple(sources)), FhirOptions(patient_system="urn:oid:2.25.77")
    written = tuple(write_objects(told, context))
    message = build_message(told, context, written, options, _message_uid(study)).encode()
    return written, to_json_bytes(build_bundle(told, context, written, options)), message


# --- the receivers, away and back --------------------------------------------------------------------------------


class Clock:
    """The clock of the outbox, which can be moved ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


@contextmanager
def _working(owed: Owed, there: Sequence[DestinationKind], minutes: float) -> Iterator[None]:
    """Run a worker for each destination, which has been away for so long when this is entered."""
    caller, clock, tried = Caller("AINODE", 60.0), Clock(), Counter[str]()

    def sender(one: DestinationKind) -> Any:
        tried[one.name] += 1
        return one.sender(caller)

    workers = [
        DestinationWorker(
            one.name, partial(sender, one), owed.database, owed.spool,
            OutboxPolicy(
                "benchmark:2", _BACK_OFF, None, partial(one.reach, caller),
                tells_events=one.told_in_events is not None,
            ),
        )
        for one in there
    ]  # fmt: skip
    with mock.patch("dicom_node.deliver.dispatch.outbox.time", clock):
        for worker in workers:
            worker.start()
        try:
            wait_until(lambda: len(tried) == len(there), 60, "a first attempt at each")
            before = dict(tried)
            clock.ahead_s = minutes * 60
            wait_until(lambda: all(tried[name] > number for name, number in before.items()), 60, "an attempt then")
            yield
        finally:
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.join(60)


def drained(folder: Path, count: int, minutes: float) -> list[Drained]:
    """Let all come back, and return what became of what waited for each."""
    owed, files = Owed(folder, count), folder / "results"
    ports = {name: free_port() for name in ("pacs", "ehr", "ris", "hook")}
    names = [*ports, "files"]
    files.write_bytes(b"")
    settings = SiteSettings.model_validate({"destination": [
        {"name": "pacs", "kind": "dicom", "ae_title": "STORESCP", "host": "127.0.0.1", "port": ports["pacs"]},
        {"name": "ehr", "kind": "fhir", "url": f"http://127.0.0.1:{ports['ehr']}/fhir/R4", "patient": "logical"},
        {"name": "ris", "kind": "hl7", "host": "127.0.0.1", "port": ports["ris"]},
        {"name": "hook", "kind": "webhook", "url": f"http://127.0.0.1:{ports['hook']}/events", "secret": SECRET},
        {"name": "files", "kind": "folder", "path": str(files)},
    ]})  # fmt: skip
    with _working(owed, destinations_of(settings), minutes), ExitStack() as back:
        back_at = datetime.now(UTC)
        pacs = back.enter_context(running_storescp(folder / "pacs", port=ports["pacs"]))
        ehr = back.enter_context(running_fhir_server(port=ports["ehr"]))
        ris = back.enter_context(running_receiver(port=ports["ris"]))
        hook = back.enter_context(running_webhook_receiver(port=ports["hook"]))
        files.unlink()
        for name in names:
            wait_until(lambda name=name: not owed.waiting(name), _PATIENCE_S, f"{name} to have everything", 0.2)  # type: ignore[misc]
        kept, studies = pacs.files(), owed.studies_of_messages()
        came = {
            "pacs": _studies_in(kept),
            "ris": [studies[str(hl7.parse(one).segment("MSH")[10])] for one in ris.received],
            "hook": [event["data"]["study_instance_uid"] for event in hook.taken()],
            "files": _studies_in(files.glob("*.dcm")),
        }
        twice = {
            "pacs": pacs.process.log.read_text(errors="replace").count("Received Store Request") - len(kept),
            "ehr": _reports_at(ehr) - count,
            "ris": len(ris.received) - count,
            "hook": len(hook.requests()) - count,
            "files": len(list(files.glob("*.dcm"))) - 2 * count,
        }
    return [_told(owed, name, back_at, came.get(name, ()), twice[name]) for name in names]


def _studies_in(paths: Iterable[Path]) -> list[str]:
    """Return the studies of DICOM files, in the order in which the files were written."""
    return [_study_in(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]


def _study_in(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


def _reports_at(ehr: FhirServer) -> int:
    """Return how many DiagnosticReports there are."""
    answer = ehr.http.get(f"{ehr.url}/DiagnosticReport", params={"_count": "1", "_total": "accurate"})
    return int(answer.raise_for_status().json()["total"])


def _told(owed: Owed, name: str, back_at: datetime, came: Sequence[str], twice: int) -> Drained:
    sent = owed.sent(name)
    order = list(dict.fromkeys(came or [study for study, _ in sent]))
    return Drained(
        receiver=name, results=len({study for study, _ in sent}), objects=len(sent),
        first_s=(sent[0][1] - back_at).total_seconds(), last_s=(sent[-1][1] - back_at).total_seconds(),
        came_twice=twice, out_of_order=sum(one != other for one, other in zip(order, owed.order, strict=True)),
    )  # fmt: skip


def report(found: Sequence[Drained], minutes: int) -> str:
    """Return the figures as a table."""
    rows = [
        f"{one.receiver:<6} {one.results:5d} results, {one.objects:5d} objects: first {one.first_s:5.1f} s after "
        f"its return, all {one.last_s:6.1f} s; {one.came_twice} twice, {one.out_of_order} out of order"
        for one in found
    ]
    return "\n".join([f"away for {minutes} minutes", *rows])


def main() -> int:
    """Measure and print; 1 where anything came twice or out of order."""
    parser = parser_of(__doc__, {"results": 8, "minutes": 5})
    parser.add_argument("--results", type=int, default=500)
    parser.add_argument("--minutes", type=int, default=480)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = drained(Path(folder), options.results, options.minutes)
    print(report(found, options.minutes))
    keep([asdict(one) for one in found], options.json)
    return int(any(one.came_twice or one.out_of_order for one in found))


if __name__ == "__main__":
    sys.exit(main())
