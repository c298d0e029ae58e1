"""Names and identifiers that attack: paths, shell and markup characters, line breaks, wrong character sets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.peers import raw
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import Raw
from tests.support.acceptor_state import log_lines, logged_errors, parts, wait_until_journal_is_whole
from tests.support.results.folders import objects_in
from tests.support.results.stored_objects import kept_by
from tests.support.studies.data_factories import encoded, small_chest_ct
from tests.support.studies.small_images import (
    CT_IMAGE,
    EXPLICIT_LITTLE,
    Image,
    element,
    header,
    image_module,
    small_image,
    uid,
)
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

SUCCESS, CANNOT_UNDERSTAND = 0x0000, 0xC000
HOSTILE_UIDS = (
    "../../../../tmp/written-by-uid",
    "1.2/../../etc/passwd",
    "1.2.3\0/x",
    "$(touch x)",
    "1.2.3|x",
    "C:\\x",
    "1.2.3\n4",
    "9" * 65,
)

HOSTILE_TITLES = (";$(touch x)", "`touch x`", "../../x", "a|b&c>d", "%s%n%x", "' OR 1=1 --", "{{7*7}}", "\x1b[2J\r\nX")


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("bad"), {"route": []})
    node.start()
    wait_until_journal_is_whole(node)  # else its slots come among the files that a test looks for
    yield node
    node.kill9()


def with_uids(**uids: str) -> Image:
    """A proper image but for the UIDs; `sop_instance_uid` is the one its command names, too."""
    head = header("bad", "study", b"Phantom^Test", **uids) + image_module(8, 8)
    data_set = head + element(0x7FE00010, b"OW", bytes(128))
    return Image(CT_IMAGE, uids.get("sop_instance_uid", uid("bad")), "", data_set)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- identifiers ---


@pytest.mark.parametrize("which", ["sop_instance_uid", "study_uid", "series_uid"])
def test_a_uid_that_is_none_is_refused_and_nothing_is_written_because_of_it(listener: Node, which: str) -> None:
    before = files_below(listener.folder)
    with Raw(listener.dicom_port).opened() as peer:
        for hostile in HOSTILE_UIDS:
            assert peer.store(with_uids(**{which: hostile})) == CANNOT_UNDERSTAND, hostile
        peer.release()
    listener.wait_until_settled()
    # What the peers of earlier tests could not send is kept for the other processes of the node, and the audit trail is
    # anchored every while.
    kept = ("data/node.sqlite", "data/not-taken/", "data/audit/")
    new = {name for name in files_below(listener.folder) - before if not name.startswith(kept)}
    assert new == set()
    assert not Path("/tmp/written-by-uid").exists()
    assert kept_by(listener) == []
    assert logged_errors(listener) == []


def test_titles_of_shell_characters_are_only_text(listener: Node, tmp_path: Path) -> None:
    lines = len(log_lines(listener))
    for number, title in enumerate(HOSTILE_TITLES):
        with Raw(listener.dicom_port) as peer:
            answer = peer.associate(calling=title[:16])
            if answer.kind == raw.ASSOCIATE_AC:
                assert peer.store(small_image(f"title-{number}", f"title-{number}")) == SUCCESS
                peer.release()
    listener.wait_until_settled()
    assert not list(Path.cwd().glob("x")) + list(listener.folder.rglob("x"))
    for line in log_lines(listener)[lines:]:
        assert isinstance(json.loads(line), dict)
        assert not any(ord(character) < 0x20 for character in line)


# --- structures ---


def nested(depth: int) -> bytes:
    """A sequence within a sequence within a sequence, all of undefined length."""
    opening = bytes.fromhex("08004011") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
    closing = bytes.fromhex("feff0de000000000") + bytes.fromhex("feffdde000000000")
    return opening * depth + closing * depth


STRUCTURES: dict[str, bytes] = {
    "sequences 300 deep": header("bad") + nested(300),
    "sequences 100,000 deep": header("bad") + nested(100_000),
    "a sequence that never ends": header("bad") + nested(3)[:60],
    "an element longer than the data set": header("bad") + element(0x00081030, b"LO", b"x" * 9)[:-5],
    "an element of four gigabytes": header("bad") + bytes.fromhex("08004900") + b"OB\0\0" + b"\xf0\xff\xff\xff",
    "pixel data longer than the data set": header("bad")
    + image_module(8, 8)
    + element(0x7FE00010, b"OW", b"")[:-4]
    + (1 << 31).to_bytes(4, "little"),
    "pixel data cut off": small_image("bad").data_set[:-100],
    "no study": header("bad", study_uid=""),
}


@pytest.mark.parametrize("what", STRUCTURES)
def test_a_broken_structure_is_refused_and_the_association_goes_on(listener: Node, what: str) -> None:
    bad = Image(CT_IMAGE, uid("bad"), "", STRUCTURES[what])
    with Raw(listener.dicom_port).opened() as peer:
        assert peer.store(bad) == CANNOT_UNDERSTAND
        assert peer.echo() == SUCCESS
        peer.release()
    assert uid("bad") not in {kept.sop_instance_uid for kept in kept_by(listener)}
    assert parts(listener) == []
    assert logged_errors(listener) == []


def test_pixels_that_promise_gigabytes_end_as_not_analysed_and_not_as_an_answer(
    node: Callable[..., Node],
) -> None:
    """65,535 rows and columns of which ten bytes came: kept as received, never analysed as if it were whole."""
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    one = node(route=[route])
    data_set = header("promise", "promise") + image_module(65535, 65535) + element(0x7FE00010, b"OW", bytes(10))
    promise = Image(CT_IMAGE, uid("promise"), small_image("x", "promise").study_instance_uid, data_set)
    with Raw(one.dicom_port).opened() as peer:
        status = peer.store(promise)
        assert status in {SUCCESS, CANNOT_UNDERSTAND}
        peer.release()
    if status == SUCCESS:
        wait_until(lambda: _state(one, promise.study_instance_uid) in {"NOT_ANALYSED", "FAILED"}, 120, "its end", 0.5)


def test_data_sets_that_are_dear_to_look_at_do_not_keep_others_waiting(
    listener: Node, machine_stall_s: Callable[[], float]
) -> None:
    """Two peers send four megabytes of nothing but tiny elements, again and again."""
    tiny = b"".join(element(0x00091000 + n % 240, b"SH", b"") for n in range(500_000))
    dear = Image(CT_IMAGE, uid("dear"), "", header("dear") + tiny + element(0x7FE00010, b"OW", bytes(64)))
    over = threading.Event()
    dear_waits: list[float] = []

    def send() -> None:
        with Raw(listener.dicom_port, timeout_s=60).opened() as peer:
            while not over.is_set():
                dear_waits.append(took(lambda: peer.store(dear, pdu_bytes=131072)))

    senders = [threading.Thread(target=send) for _ in range(2)]
    for thread in senders:
        thread.start()
    try:
        wait_until(lambda: len(dear_waits) >= 2, 120, "the dear ones to be looked at")
        waits: list[float] = []
        answers: list[int] = []
        with Raw(listener.dicom_port).opened() as peer:
            for number in range(20):
                cheap = small_image(f"cheap-{number}", "cheap")
                waits.append(took(lambda image=cheap: answers.append(peer.store(image))))
    finally:
        over.set()
        for thread in senders:
            thread.join()
    assert answers == [SUCCESS] * 20
    # A slow machine takes longer over both; who had to wait for a dear one would take as long as that.
    limit_s = max(1.0, min(dear_waits) / 2) + machine_stall_s()
    assert max(waits) < limit_s, (waits, dear_waits)
    assert logged_errors(listener) == []


def took(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _state(node: Node, study: str) -> str:
    with node.api() as api:
        answer = api.get(f"/api/studies/{study}")
    return str(answer.json()["study"]["state"]) if answer.status_code == 200 else ""


def _owed(node: Node, study: str) -> int:
    with node.api() as api:
        return int(api.get(f"/api/studies/{study}").raise_for_status().json()["study"]["deliveries"]["pending"])


# --- names ---

MARKUP = "<script>alert(1)</script>^\"'&"
NAMES: dict[str, tuple[str, bytes]] = {
    "line breaks": ("ISO_IR 192", b'Doe\r\n{"event":"forged"}^Jane'),
    "markup": ("ISO_IR 192", MARKUP.encode()),
    "bytes of another character set": ("ISO_IR 192", "Müller^Jörg".encode("latin-1")),
    "an unknown character set": ("ISO_IR 999", "Müller^Jörg".encode("latin-1")),
    "escape sequences without an end": ("\\ISO 2022 IR 87", b"Yamada^\x1b$B;3ED"),
    "control characters": ("ISO_IR 192", b"Doe\x00\x07\x1b[31m^Jane"),
}


@pytest.fixture(scope="module")
def reporting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that reports on chest CTs into the folder `results` beside its data."""
    folder = tmp_path_factory.mktemp("named")
    settings = {
        "route": [{"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
        "destination": [{"name": "files", "kind": "folder", "path": str(folder / "results")}],
        "fhir": {"patient_system": "urn:oid:2.25.77"},
    }
    node = Node(folder, settings)
    node.start()
    yield node
    node.kill9()


def _results_about(node: Node, study: str) -> list[Path]:
    return [path for path in objects_in(node.folder / "results") if study.encode() in path.read_bytes()]


@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")  # results are in their sources' character set
@pytest.mark.parametrize("what", NAMES)
def test_a_hostile_name_is_one_log_line_escaped_by_the_api_and_harmless_in_every_result(
    reporting: Node, what: str
) -> None:
    one, (charset, name) = reporting, NAMES[what]
    study = _send_named(one, what, charset, name)
    wait_until(lambda: _state(one, study) in {"REPORTED", "NOT_ANALYSED", "FAILED"}, 120, "an end", 0.5)
    assert _state(one, study) == "REPORTED"
    wait_until(lambda: not _owed(one, study), 60, "the delivery of the results", 0.5)
    results = _results_about(one, study)
    assert {"SC", "SR", "FHIR"} <= {path.name.split("-")[0] for path in results}

    for line in log_lines(one):
        assert line.startswith("{"), line
        assert not any(text in line for text in ("Doe", "alert(1)", "Jane", "ller", "forged")), line
    with one.api() as api:
        for path in ("/api/studies", f"/api/studies/{study}", f"/api/studies/{study}/timeline"):
            answer = api.get(path).raise_for_status()
            assert answer.headers["content-type"].startswith("application/json")
            assert answer.headers["x-content-type-options"] == "nosniff"
            answer.json()
    for made in results:
        if made.suffix == ".dcm":
            assert pydicom.dcmread(made).StudyInstanceUID == study
        if made.name.startswith("SR-"):
            validators.assert_readable_sr(made)
        if made.name.startswith("FHIR-"):
            text = made.read_text(encoding="utf-8")
            Bundle.model_validate_json(text)
            assert "<script>" not in "".join(_narratives(json.loads(text)))


def _narratives(resource: object) -> Iterator[str]:
    """Every piece of XHTML in a resource."""
    if isinstance(resource, dict):
        for key, value in resource.items():
            if key == "div" and isinstance(value, str):
                yield value
            else:
                yield from _narratives(value)
    elif isinstance(resource, list):
        for value in resource:
            yield from _narratives(value)


def _send_named(node: Node, seed: str, charset: str, name: bytes) -> str:
    """Send a chest CT phantom under this name, byte for byte; return its study."""
    slices, _ = small_chest_ct(seed)
    contexts = {raw.STORE_CONTEXT: (CT_IMAGE, (EXPLICIT_LITTLE,))}
    placeholder = "P" * (len(name) + len(name) % 2)
    with Raw(node.dicom_port) as peer:
        assert peer.associate(contexts).kind == raw.ASSOCIATE_AC
        for dataset in slices:
            dataset.PatientName = placeholder
            dataset.pop("SpecificCharacterSet", None)
            data_set = encoded(dataset).replace(placeholder.encode(), name + b" " * (len(name) % 2))
            data_set = element(0x00080005, b"CS", charset.encode()) + data_set
            image = Image(CT_IMAGE, str(dataset.SOPInstanceUID), str(dataset.StudyInstanceUID), data_set)
            assert peer.store(image) == SUCCESS
        peer.release()
    return str(slices[0].StudyInstanceUID)
