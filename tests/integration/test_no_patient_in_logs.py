"""Whatever goes wrong with a study, no process writes down who the patient is.

One node meets every failure that can be provoked, with studies that hold a word of its own in each attribute that tells
who it is, in three character sets; peers repeat the words where they refuse. Searched are its log, names of files,
error answers, events, timelines, and what commands print.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dicom_node.__main__ import main
from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.index.database import Database
from tests.integration.test_logs import line_of
from tests.peers.echoing import FAILURES, echoing_pacs, echoing_web
from tests.peers.node import Node
from tests.peers.otlp import Collector, running_collector
from tests.peers.process import wait_until
from tests.peers.raw import Raw, c_store_rq, data_pdus, p_data
from tests.peers.webhook_receiver import SECRET
from tests.support.hl7.messages import message, pid
from tests.support.hl7.peers import answers, code, raw, send
from tests.support.models.model_folders import write_card
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import encoded
from tests.support.studies.marked import CHARACTER_SETS, ELSEWHERE, WORDS, ascii_name, in_base64, mark, spellings
from tests.support.studies.small_images import Image

_ENDED = {"REPORTED", "NOT_ANALYSED", "FAILED"}
_PATIENCE_S = 240.0
_SAID = [*WORDS.values(), ELSEWHERE, *(word for _, word in CHARACTER_SETS.values())]
_ECHO = " ".join(_SAID)
#: What a person may say of a patient in a reason stands in the timeline, for it was written for it; never in a log.
_REASON = f"{WORDS['PatientName']} was confused with another"
#: What decides on a route may stand in the timeline, which only users of the API read.
_MAY_BE_TOLD_IN_TIMELINES = {"StudyDescription", "SeriesDescription"}
#: A line of the log for each failure that was provoked; one that is missing says that the test proves nothing.
_WENT_WRONG = {
    "object refused", "file refused", "watched file rejected",
    "a record cannot be filed; it stays in its slot and is tried again", "association aborted", "attempt failed",
    "job given up", "prints of a model dropped",
    "message of a library", "object parked", "delivery put off", "images were replaced", "withdrawal planned",
    "retrieval finished", "hl7 message taken", "hl7 message refused", "hl7 connection ended", "event parked",
    "images damaged", "job failed unexpectedly", "request answered",
}  # fmt: skip
#: The rules of alarms by which it must have been told.
_ALARMED = ("results_waiting", "results_parked", "model_errors", "alarms_untold")
#: What the metrics must have counted of it.
_COUNTED = (
    rb'runs_total{model="quoting",outcome="failed",reason="ANALYSIS_FAILED"}',
    rb'attempts_failed_total{model="quoting"}',
    rb'deliveries_total{destination="pacs",outcome="parked"}',
    rb"objects_refused_total{.*}",
    rb"associations_total{.*}",
)


@dataclass(frozen=True)
class Written:
    """What came out of the node: its log, the texts of the timeline, what commands printed, error answers of its API,
    names of files and what was left in temporary ones, what a webhook was to be told, metrics, traces and alarms."""

    log: bytes
    events: frozenset[str]
    timeline: bytes
    printed: bytes
    answers: bytes
    files: bytes
    told_webhooks: bytes
    metrics: bytes
    traces: bytes
    alarms: bytes


# --- the studies ---------------------------------------------------------------------------------------------------


def study(doing: str, character_set: str, slices: int = 2) -> list[Dataset]:
    """Return images whose description ends with what the model is to do."""
    images, _ = chest_ct_phantom(f"{doing} {character_set}", slices=slices, rows=32)
    return [mark(image, character_set, doing) for image in images]


def undecodable() -> list[Dataset]:
    images = study("reads", "latin")
    for image in images:
        image.PixelData = encapsulate([f"{WORDS['PatientName']} is no picture".encode() + bytes(64)])
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return images


def of_two_patients() -> list[Dataset]:
    first, second = study("confuses", "unicode")
    second.PatientName, second.PatientID = f"{ascii_name('Žõmarkß')}-B", f"{WORDS['PatientID']}-B"
    return [first, second]


def garbage() -> Iterator[Image]:
    """Yield objects that cannot be taken, for one reason each; the words stand where UIDs should, and all around."""
    (image,) = study("garbage", "latin", slices=1)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        bad = deepcopy(image)
        setattr(bad, keyword, f"{WORDS['PatientName']}.1")
        yield Image(bad.SOPClassUID, bad.SOPInstanceUID, bad.StudyInstanceUID, encoded(bad))
    whole = encoded(image)
    beginning = whole[: whole.index(WORDS["PatientName"].encode()) + 4]
    yield Image(image.SOPClassUID, f"{WORDS['PatientID']}.2", image.StudyInstanceUID, whole)
    yield Image(image.SOPClassUID, image.SOPInstanceUID, image.StudyInstanceUID, beginning)
    yield Image(image.SOPClassUID, image.SOPInstanceUID, image.StudyInstanceUID, WORDS["PatientName"].encode() * 9)


def written(folder: Path, images: Sequence[Dataset]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.dcm" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save_as(path, enforce_file_format=True)
    return paths


# --- the failures --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A node between peers that repeat what they are told, and what the command line has said to it."""

    node: Node
    folder: Path
    pacs_port: int
    printed: io.StringIO
    answers: list[bytes] = field(default_factory=list)

    def api(self) -> httpx.Client:
        """Return a client of the API that keeps the answers that refuse."""
        client = self.node.api()
        client.event_hooks = {"response": [self._keep]}
        return client

    def _keep(self, answer: httpx.Response) -> None:
        if answer.status_code >= 400:
            self.answers.append(f"{answer.headers}".encode() + answer.read())

    def command(self, *words: str, node: bool = True) -> int:
        """Run a command; return its exit status."""
        with redirect_stdout(self.printed), redirect_stderr(self.printed):
            return main([*words, *(["--config", str(self.node.config)] if node else [])])

    def send(self, images: Sequence[Dataset], name: str) -> str:
        """Send by the command line; return the study."""
        written(self.folder / name, images)
        peer = f"{self.node.aet}@127.0.0.1:{self.node.dicom_port}"
        assert self.command("send", str(self.folder / name), "--to", peer, node=False) == 0
        return str(images[0].StudyInstanceUID)

    def states(self) -> dict[str, str]:
        with self.node.api() as api:
            listed = api.get("/api/studies").raise_for_status().json()["studies"]
        return {one["study_instance_uid"]: one["state"] for one in listed}


def configured(folder: Path, pacs_port: int, web: str, collector: Collector) -> Node:
    """Return a node whose model, destinations and sources are of the talkative kind."""
    write_card(
        folder / "models" / "quoting", "python", task="measurement", more="",
        top='entry_point = "tests.integration.quoting_model:analyse"\n[[accepts]]\nmodality = "CT"',
    )  # fmt: skip
    (folder / "watched").mkdir()
    (folder / "full").write_text("a file where a folder should be")
    there = {"ae_title": "ECHOING", "host": "127.0.0.1", "port": pacs_port}
    return Node(folder / "node", {
        "node": {"log_level": "DEBUG"},
        "inference": {"models_dirs": [str(folder / "models")], "require_activation": "none", "max_attempts": 1,
                      "device": "cpu", "workers": 1},
        "traces": {"endpoint": collector.endpoint},
        "alarms": {"every_s": 1, "limits": dict.fromkeys(_ALARMED, 0.01)},
        "alarm": [{"name": "told", "kind": "webhook", "url": f"{web}/alarms", "secret": SECRET}],
        "hl7": {"port": 0, "patient_authority": "HOSP", "message_timeout_s": 0.5, "max_message_kb": 64},
        "destination": [{"name": "pacs", "kind": "dicom", **there},
                        {"name": "web", "kind": "dicomweb", "url": f"{web}/dicom-web"},
                        {"name": "ehr", "kind": "fhir", "url": f"{web}/fhir"},
                        {"name": "hook", "kind": "webhook", "url": f"{web}/hook", "secret": SECRET},
                        {"name": "files", "kind": "folder", "path": str(folder / "full" / "results")}],
        "source": [{"name": "dimse", "kind": "dimse", **there},
                   {"name": "dicomweb", "kind": "dicomweb", "url": f"{web}/dicom-web"}],
        "watch": [{"path": str(folder / "watched"), "settle_s": 0.1}],
        "route": [{"name": "chest", "model": "quoting", "quiet_period_s": 0.5, "when": {"modality": "CT"}}],
    })  # fmt: skip


def send_garbage(site: Site) -> None:
    """Send what is no image, break off in the middle, and name a patient where a command names an object."""
    for image in garbage():
        with Raw(site.node.dicom_port).opened() as peer:
            assert peer.store(image) != 0
    (image,) = study("garbage", "japanese", slices=1)
    with Raw(site.node.dicom_port).opened() as peer:
        peer.send(p_data(1, 3, c_store_rq(image.SOPClassUID, WORDS["PatientID"])))
        peer.send(next(data_pdus(encoded(image), 512)) + WORDS["PatientName"].encode() * 20)
        peer.end(30)


def upload_garbage(site: Site) -> None:
    """Bring what is no image by every way for files, under names that hold the patient's."""
    name = f"{WORDS['PatientName']}.dcm"
    (image,) = study("garbage", "unicode", slices=1)
    image.StudyInstanceUID = f"{WORDS['PatientID']}.3"
    (bad,) = written(site.folder / "bad", [image])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(name, bad.read_bytes())
        zipped.writestr(f"{WORDS['PatientID']}.txt", _ECHO)
    with site.api() as api:
        assert api.post("/api/studies", files={"files": (name, bad.read_bytes())}).status_code == 422
        assert api.post("/api/studies", files={"files": (f"{name}.zip", archive.getvalue())}).status_code == 422
        kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + bad.read_bytes() + b"\r\n--b--\r\n"
        assert api.post("/dicom-web/studies", content=body, headers=kind).status_code >= 400
        assert api.post(f"/dicom-web/studies/{WORDS['PatientID']}", content=body, headers=kind).status_code >= 400
        assert api.get(f"/api/studies/{WORDS['PatientName']}", params={"q": _ECHO}).status_code >= 400
    (site.folder / "watched" / name).write_bytes(bad.read_bytes())
    (site.folder / "watched" / f"{name}.zip").write_bytes(archive.getvalue())


def tell_by_hl7(site: Site, number: str) -> None:
    """Have a registration tell of the patient: what is taken, what is refused for each part, and what is broken off."""
    port, name = site.node.ports["hl7"], WORDS["PatientName"]
    who = pid(f"{WORDS['PatientID']}^^^HOSP", name=f"{name}^{CHARACTER_SETS['japanese'][1]}")
    obr = "|".join(["OBR", "1", "P1", "F1", f"X^{name}", *[""] * 13, WORDS["AccessionNumber"]])
    said = [
        message("ORM^O01", who, "ORC|NW|P1|F1", obr), message("ORM^O01", who, "ORC|NW", obr), message("ADT^A08", who),
        message(f"ADT^{name}", who), message("ADT^A08", who, more=f"||||||{name}"), message("ADT^A37", who),
        message("ADT^A08", who, control_id=" "), message("ADT^A40", who, f"MRG|{number}^^^HOSP"), f"{name}|{_ECHO}",
        message("ADT^A40", pid(f"{number}^^^HOSP", name=name), f"MRG|{WORDS['PatientID']}^^^HOSP"),
    ]  # fmt: skip
    told = {code(send(port, one)) for one in said}
    told |= {code(send(port, message("ADT^A08", pid("1", name=name)).replace(name, f"{name}ü").encode("latin-1")))}
    assert told == {"AA", "AR"}
    for broken in (
        b"\x0bMSH|^~\\&|" + _ECHO.encode() + b"x" * 70_000,
        b"\x0bMSH|^~\\&|" + _ECHO.encode(),
        _ECHO.encode() * 99,
    ):
        with raw(port) as connection:
            connection.sendall(broken)
            answers(connection)


def search_and_fetch(site: Site, uid: str) -> None:
    """Ask PACSs that fail, for a patient by name of its number, and for a study."""
    with site.api() as api:
        for source in ("dimse", *["dicomweb"] * len(FAILURES)):
            asked = {"patient_id": WORDS["PatientID"], "accession_number": WORDS["AccessionNumber"]}
            assert api.get(f"/api/sources/{source}/studies", params=asked).status_code == 502
            begun = api.post(f"/api/studies/{uid}/retrieve", json={"source": source}).raise_for_status()
            wait_until(partial(_has_failed, api, begun.headers["Location"]), _PATIENCE_S, "the retrieval's end")


def _has_failed(api: httpx.Client, location: str) -> bool:
    return bool(api.get(location).raise_for_status().json()["state"] == "FAILED")


def refuse_a_row(site: Site, image: Dataset) -> None:
    """Have the database refuse the row of one image, in words about the patient."""
    with closing(sqlite3.connect(site.node.data_dir / "node.sqlite", timeout=60)) as database, database:
        database.execute(
            f"CREATE TRIGGER refuses BEFORE INSERT ON instances WHEN NEW.sop_instance_uid = '{image.SOPInstanceUID}' "
            f"BEGIN SELECT RAISE(ABORT, '{WORDS['PatientName']} is refused'); END"
        )


def refuse_results(site: Site, image: Dataset) -> None:
    """Have the database refuse the result of one study, in words about the patient."""
    with closing(sqlite3.connect(site.node.data_dir / "node.sqlite", timeout=60)) as database, database:
        database.execute(
            "CREATE TRIGGER refuses_results BEFORE INSERT ON results WHEN NEW.study_instance_uid = "
            f"'{image.StudyInstanceUID}' BEGIN SELECT RAISE(ABORT, '{WORDS['PatientName']} has no result'); END"
        )


def damage(site: Site, uid: str) -> None:
    """Have the disk hold words about the patient where an image was, and the study analysed again."""
    with closing(sqlite3.connect(site.node.data_dir / "node.sqlite", timeout=60)) as database:
        query = "SELECT object_key FROM instances WHERE study_instance_uid = ? AND superseded_at IS NULL"
        (key,) = database.execute(query, [uid]).fetchone()
    (site.node.data_dir / "spool" / "objects" / key).write_bytes(_ECHO.encode())
    assert site.command("rerun", uid) == 0


def provoke(site: Site) -> None:
    """Go through all failures."""
    refused = study("refused", "latin")
    refuse_a_row(site, refused[0])
    studies = [site.send(study("raises", letters), f"raises-{letters}") for letters in CHARACTER_SETS]
    studies += [site.send(study("prints", letters), f"prints-{letters}") for letters in ("latin", "japanese")]
    studies.append(site.send(study("dies", "unicode"), "dies"))
    studies.append(site.send(undecodable(), "undecodable"))
    studies.append(site.send(of_two_patients(), "confuses"))
    unsaved = study("reads", "unicode")
    refuse_results(site, unsaved[0])
    studies.append(site.send(unsaved, "unsaved"))
    send_garbage(site)
    upload_garbage(site)
    site.send(refused, "refused")
    search_and_fetch(site, studies[0])
    tell_by_hl7(site, f"{WORDS['PatientID']}-GIVEN-UP")
    wait_until(lambda: all(site.states().get(one) in _ENDED for one in studies), _PATIENCE_S, "every end", 0.3)
    correct_and_withdraw(site, *studies[3:5])
    damage(site, studies[4])
    wait_until(lambda: seen(site.node) >= _WENT_WRONG, _PATIENCE_S, f"{sorted(_WENT_WRONG - seen(site.node))}", 0.3)


def correct_and_withdraw(site: Site, corrected: str, withdrawn: str) -> None:
    """Send an image again with other content, and take a result back for a reason that names the patient."""
    images = study("prints", "latin")
    site.send(images, "again")
    images[0].PixelData = bytes(len(images[0].PixelData))
    assert site.send(images, "corrected") == corrected
    assert site.command("withdraw", withdrawn, "--reason", _REASON) == 0
    for words in (("status", corrected), ("rules", "explain", corrected), ("retry", "--destination", "pacs"),
                  ("rerun", corrected), ("doctor",),
                  ("export", corrected, "--out", str(site.node.folder / "out"), "--deidentify", "basic")):  # fmt: skip
        site.command(*words)
    peer = f"ECHOING@127.0.0.1:{site.pacs_port}"
    assert site.command("send", str(site.folder / "corrected"), "--to", peer, node=False) == 1


def seen(node: Node) -> frozenset[str]:
    return frozenset(str(line["event"]) for line in node.events())


def _metrics(api: httpx.Client) -> bytes:
    return api.get("/metrics").raise_for_status().content


def _uncounted(metrics: bytes) -> list[bytes]:
    """Return which of the failures no metric tells of."""
    return [one for one in _COUNTED if not re.search(rb"^dicom_node_" + one + rb" [1-9]", metrics, re.MULTILINE)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """All that came out of a node that met every failure."""
    folder = tmp_path_factory.mktemp("marked")
    with ExitStack() as stack:
        pacs_port = stack.enter_context(echoing_pacs(_ECHO[:64]))
        web = stack.enter_context(echoing_web(_ECHO))
        collector = stack.enter_context(running_collector())
        node = configured(folder, pacs_port, web, collector)
        accept = ["models", "accept", "quoting", "--config", str(node.config)]
        subprocess.run([sys.executable, "-m", "dicom_node", *accept], cwd=REPOSITORY, check=True, capture_output=True)
        (folder / "tmp").mkdir()
        node.start({"TMPDIR": str(folder / "tmp")})
        stack.callback(node.kill9)
        site = Site(node, folder, pacs_port, io.StringIO())
        provoke(site)
        timeline = _texts(node)
        events, webhooks = seen(node), _column(node, "SELECT body FROM notifications")
        with node.api() as api:
            wait_until(lambda: not _uncounted(_metrics(api)), _PATIENCE_S, "every failure to be counted", 0.3)
            metrics = _metrics(api)
        wait_until(lambda: not _unalarmed(node), _PATIENCE_S, "every alarm", 0.3)
        alarms = b"\n".join(_column(node, query) for query in _OF_ALARMS)
        node.stop()
    files = _names(node.data_dir, node.folder / "out", folder / "tmp")
    printed, answers = site.printed.getvalue().encode(), b"\n".join(site.answers)
    traces = b"\n".join(collector.bodies)
    return Written(node.log.read_bytes(), events, timeline, printed, answers, files, webhooks, metrics, traces, alarms)


_OF_ALARMS = ("SELECT subject || text FROM alarms", "SELECT body FROM alarm_messages",
              "SELECT fault FROM alarm_messages", "SELECT text FROM alarm_signs")  # fmt: skip


def _unalarmed(node: Node) -> set[str]:
    """Return the rules of which no alarm was raised."""
    return set(_ALARMED) - set(_column(node, "SELECT rule FROM alarms WHERE raised_at IS NOT NULL").decode().split())


def _texts(node: Node) -> bytes:
    """The texts of every timeline, and the notes on deliveries."""
    queries = ("SELECT text FROM events", "SELECT note FROM deliveries", "SELECT message FROM jobs",
               "SELECT note FROM notifications", "SELECT reason FROM destinations")  # fmt: skip
    return b"\n".join(_column(node, query) for query in queries)


def _column(node: Node, query: str) -> bytes:
    with closing(sqlite3.connect(node.data_dir / "node.sqlite", timeout=60)) as database:
        return "\n".join(str(one) for (one,) in database.execute(query)).encode()


def _names(*folders: Path) -> bytes:
    """The names of all files, and what is left in temporary ones."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    assert len(paths) > 20
    left = [path.read_bytes() for path in paths if path.is_file() and path.is_relative_to(folders[-1])]
    return b"\n".join([*(str(path).encode() for path in paths), *left])


# --- what came out -------------------------------------------------------------------------------------------------


def held(output: bytes, word: str) -> list[bytes]:
    """Return the lines that hold a word, however it is spelt."""
    forms, in64 = list(spellings(word)), list(in_base64(word))
    lines = output.splitlines()
    return [line for line in lines if any(one in line.lower() for one in forms) or any(one in line for one in in64)]


def test_every_failure_was_met(told: Written) -> None:
    assert told.events >= _WENT_WRONG


@pytest.mark.parametrize("word", _SAID)
def test_no_name_of_a_file_and_no_event_and_no_error_answer_tells_who_it_is(told: Written, word: str) -> None:
    assert not held(told.files, word)
    assert not held(told.told_webhooks, word)
    assert [line for line in held(told.answers, word) if not _names_an_uploaded_file(line)] == []


def _names_an_uploaded_file(answer: bytes) -> bool:
    """Whoever brings files is told which were not taken, by the names that they gave them; nobody else is."""
    without = answer.replace(f"{WORDS['PatientName']}.dcm".encode(), b"").replace(
        f"{WORDS['PatientID']}.txt".encode(), b""
    )
    return not any(held(without, word) for word in _SAID)


def test_there_were_events_and_error_answers_to_search(told: Written) -> None:
    assert told.told_webhooks.count(b"study_instance_uid") > 5
    assert told.answers.count(b"application/problem+json") > 5


def test_one_id_is_found_in_the_lines_of_all_processes(told: Written) -> None:
    """From the acceptor to the delivery, and in the process that runs models."""
    lines = [json.loads(line) for line in told.log.decode(errors="replace").splitlines() if line.startswith("{")]
    found: dict[str, set[str]] = {}
    for line in lines:
        for one in str(line.get("request", "")).split():
            found.setdefault(one, set()).add(line["event"])
    wanted = {"association ended", "prints of a model dropped", "job ended", "object parked"}
    assert any(events >= wanted for events in found.values())


def test_the_failures_are_counted(told: Written) -> None:
    """Else that no metric tells who it is would say nothing."""
    assert _uncounted(told.metrics) == []
    assert told.traces.count(b"deliver") > 5


@pytest.mark.parametrize("word", _SAID)
def test_no_metric_and_no_trace_tells_who_it_is(told: Written, word: str) -> None:
    assert not held(told.metrics, word)
    assert not held(told.traces, word)


@pytest.mark.parametrize("word", _SAID)
def test_no_alarm_tells_who_it_is(told: Written, word: str) -> None:
    assert not held(told.alarms, word)
    assert told.alarms.count(b'"rule"') >= len(_ALARMED)


@pytest.mark.parametrize("word", _SAID)
def test_no_log_line_tells_who_it_is(told: Written, word: str) -> None:
    assert not held(told.log, word)


@pytest.mark.parametrize("keyword", sorted(WORDS.keys() - _MAY_BE_TOLD_IN_TIMELINES))
def test_no_timeline_tells_who_it_is_but_where_a_person_did(told: Written, keyword: str) -> None:
    assert [line for line in held(told.timeline, WORDS[keyword]) if _REASON.encode() not in line] == []


@pytest.mark.parametrize("keyword", sorted(WORDS.keys() - _MAY_BE_TOLD_IN_TIMELINES))
def test_no_command_that_fails_tells_who_it_is(told: Written, keyword: str) -> None:
    assert [line for line in held(told.printed, WORDS[keyword]) if _REASON.encode() not in line] == []


@pytest.mark.parametrize("word", ["XQZNAME", "Žõmarkß"])
def test_a_word_is_found_however_it_is_spelt(word: str) -> None:
    for spelt in ascii(word), word.lower(), str(word.encode("utf-8")):
        assert held(spelt.encode(), word)
    assert held(ascii_base64(f"x{word} is here"), word)


def ascii_base64(of: str) -> bytes:
    import base64  # noqa: PLC0415

    return base64.b64encode(of.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO alembic_version (version_num) VALUES (:word), (:word)",
        "INSERT INTO studies (study_instance_uid) VALUES (:word)",
    ],
)
def test_what_a_database_refuses_is_told_without_the_row(index: Database, statement: str) -> None:
    word: Any = WORDS["PatientName"]
    with pytest.raises(DBAPIError) as refused, index.write() as connection:
        connection.execute(text(statement), {"word": word})
    line = line_of("failed", exc_info=refused.value)
    assert not held(line.encode(), word)
    assert type(refused.value).__name__ in line
