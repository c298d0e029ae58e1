"""0x0000 means durable and findable: the order of the system calls, full disks, a stopped database, duplicates."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.acceptor_state import acceptor_pid, parts, peak_mb, troubles, use_of, use_of_process
from tests.data_factories import small_chest_ct
from tests.ledger import assert_kept, kept_by
from tests.needs import tool
from tests.peers import raw
from tests.peers.dcmtk import running_storescp, storescu
from tests.peers.node import Node
from tests.peers.postgres import running_postgres
from tests.peers.process import Process, free_port, wait_until
from tests.peers.raw import Raw
from tests.peers.sender import sending
from tests.small_images import (
    CT_IMAGE,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Image,
    element,
    header,
    image_module,
    small_image,
    uid,
)

pytestmark = pytest.mark.timeout(600)

SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH = 0x0000, 0xA700, 0xA900
_FREE_DISK_FOR_LARGE = 8 << 30


# --- the order of system calls ---

#: The head of a short P-DATA-TF on its way out.
ANSWER = r"(sendto|sendmsg|write)\(\d+<(TCP|socket)[^>]*>.*\\4\\0\\0\\0"


@pytest.fixture
def trace(node: Callable[..., Node], tmp_path: Path) -> Callable[[Callable[[Node], None]], list[str]]:
    """Return a function that records the system calls of a node while something is done to it."""

    def traced(action: Callable[[Node], None]) -> list[str]:
        one = node(route=[])
        with Raw(one.dicom_port).opened() as peer:  # what happens only once shall not be in the record
            assert peer.store(small_image("warm-up")) == SUCCESS
        one.wait_until_settled()
        time.sleep(1)
        assert one.process is not None
        record = tmp_path / "calls"
        calls = "pwritev,pwritev2,pwrite64,write,writev,sendfile,fdatasync,fsync,syncfs,rename,renameat2,sendto,sendmsg"
        argv = [tool("strace", "strace"), "-f", "-y", "-s", "32", "-e", f"trace={calls}", "-o", str(record)]
        strace = Process([*argv, "-p", str(one.process.pid), "-p", str(acceptor_pid(one))], tmp_path / "strace.log")
        strace.wait_until_ready(lambda: "attached" in strace.tail())
        time.sleep(0.5)
        action(one)
        one.wait_until_settled()
        time.sleep(1)
        strace.stop(by=signal.SIGINT)
        return record.read_text(encoding="utf-8", errors="replace").splitlines()

    return traced


def begun(calls: list[str], what: str, after: int = 0) -> int:
    """The first line from `after` on where a call that matches begins."""
    return next(n for n, line in enumerate(calls) if n >= after and re.search(what, line) and "resumed" not in line)


def finished(calls: list[str], what: str, after: int = 0) -> int:
    """The line where a call that matches, begun from `after` on, has returned 0 or more."""
    start = begun(calls, what, after)
    line = calls[start]
    if "<unfinished" in line:
        pid, name = line.split()[0], line.split()[1].split("(")[0]
        ends = ((n, text) for n, text in enumerate(calls) if n > start and f"<... {name} " in text)
        start, line = next((n, text) for n, text in ends if text.startswith(f"{pid} "))
    assert re.search(r"= \d+", line), f"the call failed: {line}"
    return start


def test_a_small_image_is_synchronised_in_its_slot_before_the_answer_and_filed_before_its_slot_is_free(
    trace: Callable[..., list[str]],
) -> None:
    def store(node: Node) -> None:
        with Raw(node.dicom_port).opened() as peer:
            assert peer.store(small_image("ordered")) == SUCCESS

    calls = trace(store)
    written = finished(calls, r"pwritev2?\(\d+<[^>]*\.slot>, \[\{iov_base=\"DNSLOT01")
    slot = re.search(r"<([^>]*\.slot)>", calls[begun(calls, r"pwritev2?\(.*DNSLOT01")])
    assert slot is not None
    synchronised = finished(calls, rf"fdatasync\(\d+<{re.escape(slot[1])}>", written)
    answered = begun(calls, ANSWER, written)
    assert written < synchronised < answered

    copied = finished(calls, r"(sendfile|write|pwrite64)\(\d+<[^>]*/incoming/settle-[^>]*\.part>", answered)
    content_durable = finished(calls, r"syncfs\(|f(data)?sync\(\d+<[^>]*/incoming/settle-", copied)
    named = finished(calls, r"rename(at2)?\(.*/incoming/settle-.*/objects/", content_durable)
    committed = finished(calls, r"f(data)?sync\(\d+<[^>]*node\.sqlite", named)
    name_durable = finished(calls, r"syncfs\(|fsync\(\d+<[^>]*/objects/", named)
    freed = begun(calls, rf"pwrite64\(\d+<{re.escape(slot[1])}>, \"free", named)
    assert copied < content_durable < named < min(committed, name_durable)
    assert max(committed, name_durable) < freed


def test_a_large_image_has_its_file_name_and_record_synchronised_before_the_answer(
    trace: Callable[..., list[str]],
) -> None:
    def store(node: Node) -> None:
        with Raw(node.dicom_port).opened() as peer:
            assert peer.store(small_image("large-ordered", rows=1000), pdu_bytes=131072) == SUCCESS

    calls = trace(store)
    streamed = finished(calls, r"write\(\d+<[^>]*/incoming/dicom-[^>]*\.part>")
    content_durable = finished(calls, r"f(data)?sync\(\d+<[^>]*/incoming/dicom-", streamed)
    named = finished(calls, r"rename(at2)?\(.*/incoming/dicom-.*/objects/", content_durable)
    name_durable = finished(calls, r"fsync\(\d+<[^>]*/objects/[^>]*>", named)
    recorded = finished(calls, r"pwritev2?\(.*DNSLOT01", named)
    record_durable = finished(calls, r"fdatasync\(\d+<[^>]*\.slot>", recorded)
    answered = begun(calls, ANSWER, recorded)
    assert content_durable < named < name_durable < recorded < record_durable < answered
    last_piece = max(n for n, line in enumerate(calls) if re.search(r"write\(\d+<[^>]*/incoming/dicom-", line))
    assert last_piece < content_durable


def test_content_that_is_there_already_has_its_name_synchronised_before_the_answer_too(
    trace: Callable[..., list[str]],
) -> None:
    """Whoever brought it first may not have come so far."""
    image = small_image("twice-ordered", rows=1000)

    def store_twice(node: Node) -> None:
        with Raw(node.dicom_port).opened() as peer:
            assert [peer.store(image, pdu_bytes=131072) for _ in range(2)] == [SUCCESS, SUCCESS]

    calls = trace(store_twice)
    first = begun(calls, ANSWER, begun(calls, r"write\(\d+<[^>]*/incoming/dicom-"))
    name_durable = finished(calls, r"fsync\(\d+<[^>]*/objects/[^>]*>", first)
    assert name_durable < begun(calls, ANSWER, first + 1)


# --- full disks ---


class NodeOnSmallDisk(Node):
    """A node whose data lies on a file system of its own, `size_mb` large; `data_dir` is where this process sees it."""

    def __init__(self, folder: Path, size_mb: int, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self._inside.mkdir()
        mount = f'mount -t tmpfs -o size={size_mb}m tmpfs "$0" && exec "$@"'
        self.launcher = (tool("unshare", "util-linux"), "-rm", "sh", "-c", mount, str(self._inside))

    @property
    def data_dir(self) -> Path:
        if self.process is None:
            return self._inside
        return Path(f"/proc/{self.process.pid}/root{self._inside}")

    @data_dir.setter
    def data_dir(self, path: Path) -> None:
        self._inside = path

    def database_url(self) -> str:
        """Copy its database out, because SQLite resolves the path and would open another file; return the copy's URL.

        Everything must have settled.
        """
        self.wait_until_settled()
        for path in self.data_dir.glob("node.sqlite*"):
            shutil.copy(path, self.folder)
        return f"sqlite:///{self.folder / 'node.sqlite'}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., NodeOnSmallDisk]]:
    nodes: list[NodeOnSmallDisk] = []

    def started(size_mb: int, **settings: Any) -> NodeOnSmallDisk:
        one = NodeOnSmallDisk(tmp_path / "small", size_mb, settings)
        nodes.append(one)
        one.start()
        return one

    yield started
    for one in nodes:
        one.kill9()


def fill(path: Path, megabytes: float) -> None:
    """Take space on a disk."""
    path.write_bytes(bytes(int(megabytes * (1 << 20))))


def fill_but(path: Path, megabytes: float) -> None:
    """Take all the space of a disk but so much."""
    fill(path, shutil.disk_usage(path.parent).free / (1 << 20) - megabytes)


def test_a_full_disk_is_answered_out_of_resources_and_the_same_sender_succeeds_when_there_is_space(
    small_disk: Callable[..., NodeOnSmallDisk],
) -> None:
    one = small_disk(30, route=[], node={"min_free_mb": 0}, dicom={"journal_mb": 4})
    ballast = one.data_dir / "ballast"
    fill(ballast, 10)
    process = one.process
    acceptor = acceptor_pid(one)
    images = (small_image(f"fill-{number}", f"fill-{number // 20}", rows=384) for number in itertools.count())
    acknowledged: list[Image] = []
    refused: list[Image] = []
    with Raw(one.dicom_port, timeout_s=60).opened() as peer:
        for image in images:
            status = peer.store(image, pdu_bytes=131072)
            assert status in {SUCCESS, OUT_OF_RESOURCES}, hex(status)
            (acknowledged if status == SUCCESS else refused).append(image)
            if len(refused) == 5:
                break
            assert len(acknowledged) < 120, "the disk never filled"
        large = small_image("large-on-full-disk", rows=2500)
        assert peer.store(large, pdu_bytes=131072) == OUT_OF_RESOURCES
        assert [path for path in parts(one) if path.name.startswith("dicom-")] == []
        assert peer.echo() == SUCCESS

        ballast.unlink()
        retried = refused[-1]
        wait_until(lambda: peer.store(retried, pdu_bytes=131072) == SUCCESS, 20, "success on the same association", 0.5)
        acknowledged.append(retried)
        peer.release()

    assert (one.process, acceptor_pid(one)) == (process, acceptor)
    url = one.database_url()
    assert_kept(one, acknowledged, url=url)
    assert {kept.sop_instance_uid for kept in kept_by(one, url)} == {image.sop_instance_uid for image in acknowledged}
    assert parts(one) == []
    assert troubles(one) == []


def test_below_the_reserve_nobody_comes_in_and_results_already_made_are_still_delivered(
    small_disk: Callable[..., NodeOnSmallDisk], tmp_path: Path
) -> None:
    port = free_port()
    one = small_disk(
        160, node={"min_free_mb": 60}, dicom={"journal_mb": 4}, route=[CT_ROUTE],
        destination=[{"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": port}],
    )  # fmt: skip
    study = send_phantom(one, tmp_path, "watermark")
    wait_until(lambda: state_of(one, study)["state"] == "REPORTED", 120, "the result", 0.5)
    fill_but(one.data_dir / "ballast", 30)
    time.sleep(0.5)

    with Raw(one.dicom_port) as peer:
        answer = peer.associate()
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (2, 3, 1))
    assert state_of(one, study)["deliveries"]["pending"] > 0
    with running_storescp(tmp_path / "pacs", port=port, aet="PACS") as pacs:
        wait_until(lambda: state_of(one, study)["deliveries"]["pending"] == 0, 60, "the delivery", 0.5)
        assert {"SR", "SEG"} <= {dataset.Modality for dataset in pacs.datasets()}

    (one.data_dir / "ballast").unlink()
    wait_until(lambda: _comes_in(one), 10, "admission")


def test_a_disk_that_sinks_below_the_reserve_within_an_association_is_answered_out_of_resources(
    small_disk: Callable[..., NodeOnSmallDisk],
) -> None:
    one = small_disk(120, node={"min_free_mb": 40}, dicom={"journal_mb": 4}, route=[])
    with Raw(one.dicom_port, timeout_s=60).opened() as peer:
        assert peer.store(small_image("above")) == SUCCESS
        one.wait_until_settled()
        fill_but(one.data_dir / "ballast", 30)
        time.sleep(0.5)
        assert peer.store(small_image("below")) == OUT_OF_RESOURCES
        (one.data_dir / "ballast").unlink()
        time.sleep(0.5)
        assert peer.store(small_image("below")) == SUCCESS
        peer.release()
    assert_kept(one, [small_image("above"), small_image("below")], url=one.database_url())


def _comes_in(node: Node) -> bool:
    with Raw(node.dicom_port) as peer:
        return peer.associate().kind == raw.ASSOCIATE_AC


# --- a database that goes away ---


def test_a_stopped_database_is_answered_out_of_resources_and_the_node_recovers_by_itself(tmp_path: Path) -> None:
    with running_postgres() as postgres:
        url = postgres.create_database()
        one = Node(tmp_path / "node", {"route": [], "database": {"url": url}})
        one.start()
        acceptor = acceptor_pid(one)
        images = (small_image(f"db-{number}", f"db-{number // 100}") for number in itertools.count())
        try:
            with sending(lambda: one.dicom_port, images, patience_s=30) as (sender,):
                wait_until(lambda: len(sender.acknowledged) > 50, 30, "the first images")
                postgres.stop()
                wait_until(lambda: bool(sender.refused), 40, "the first refusal")
                before = len(sender.acknowledged)
                time.sleep(3)
                assert len(sender.acknowledged) == before, "success while the database was known to be down"
                assert {status for status, _ in sender.refused} == {OUT_OF_RESOURCES}
                postgres.start()
                wait_until(lambda: len(sender.acknowledged) > before + 50, 60, "success again")
            assert sender.cut_off == 0
            assert one.process is not None
            assert one.process.exit_status is None
            assert acceptor_pid(one) == acceptor
            assert_kept(one, sender.acknowledged, url=url)
            assert troubles(one) == []
        finally:
            one.kill9()


# --- the same again, and other bytes under the same name ---

CT_ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}


def phantom(seed: str) -> list[Dataset]:
    return small_chest_ct(seed)[0]


def write(slices: list[Dataset], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for dataset in slices:
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def send_phantom(node: Node, tmp_path: Path, seed: str) -> str:
    slices = phantom(seed)
    sent = storescu(node.dicom_port, write(slices, tmp_path / seed))
    assert sent.returncode == 0, sent.stdout[-400:]
    return str(slices[0].StudyInstanceUID)


def state_of(node: Node, study: str) -> dict[str, Any]:
    with node.api() as api:
        answer = api.get(f"/api/studies/{study}")
    return dict(answer.json()["study"]) if answer.status_code == httpx.codes.OK else {"state": "", "deliveries": {}}


def finished_results(node: Node, study: str) -> list[dict[str, Any]]:
    """Wait until the study is reported and delivered; return its results."""

    def done() -> bool:
        state = state_of(node, study)
        return state["state"] == "REPORTED" and not state["deliveries"]["pending"]

    wait_until(done, 120, "the result", 0.5)
    with node.api() as api:
        return list(api.get(f"/api/studies/{study}").raise_for_status().json()["results"])


@pytest.fixture
def reported(node: Callable[..., Node], tmp_path: Path) -> tuple[Node, list[Dataset], Path]:
    """A node that has reported on a chest CT; the slices, and the folder where the results lie."""
    results = tmp_path / "results"
    one = node(route=[CT_ROUTE], destination=[{"name": "files", "kind": "folder", "path": str(results)}])
    study = send_phantom(one, tmp_path, "again")
    assert len(finished_results(one, study)) == 1
    return one, phantom("again"), results


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_images_again_are_success_without_rows_or_a_second_analysis(
    reported: tuple[Node, list[Dataset], Path], tmp_path: Path
) -> None:
    one, slices, results = reported
    before, rows = contents(results), len(kept_by(one))
    study = send_phantom(one, tmp_path, "again")
    one.wait_until_settled()
    time.sleep(4)  # several quiet periods
    assert len(kept_by(one)) == rows == len(slices)
    assert len(finished_results(one, study)) == 1
    assert contents(results) == before


def test_other_pixels_under_a_known_uid_are_kept_and_flagged_and_the_result_stays(
    reported: tuple[Node, list[Dataset], Path], tmp_path: Path
) -> None:
    one, slices, results = reported
    before = contents(results)
    slices[3].PixelData = bytes(len(slices[3].PixelData))
    sent = storescu(one.dicom_port, write(slices[3:4], tmp_path / "other"))
    assert sent.returncode == 0, sent.stdout[-400:]
    both = [kept for kept in kept_by(one) if kept.sop_instance_uid == slices[3].SOPInstanceUID]
    assert [kept.conflict for kept in both] == [False, True]
    assert both[0].data_set != both[1].data_set
    time.sleep(4)
    study = str(slices[0].StudyInstanceUID)
    assert len(finished_results(one, study)) == 1
    assert contents(results) == before
    with one.api() as api:
        timeline = api.get(f"/api/studies/{study}/timeline").raise_for_status().text
    assert "other content" in timeline


@pytest.mark.parametrize("rows", [32, 1000], ids=["small", "large"])
def test_an_object_that_is_not_the_one_its_command_names_is_refused_and_not_kept(
    node: Callable[..., Node], rows: int
) -> None:
    one = node(route=[])
    image = small_image("mismatch", rows=rows)
    other = Image(CT_IMAGE, uid("another"), image.study_instance_uid, image.data_set)
    with Raw(one.dicom_port).opened() as peer:
        assert peer.store(other) == DOES_NOT_MATCH
        assert peer.store(image) == SUCCESS
        peer.release()
    assert [kept.sop_instance_uid for kept in kept_by(one)] == [image.sop_instance_uid]
    assert parts(one) == []


# --- very large objects ---


def pieces_of_a_large_object(name: str, frames: int) -> Iterator[bytes]:
    """Yield a multi-frame data set with 2 MB a frame, frame by frame."""
    frame = os.urandom(1 << 21)
    head = header(name) + image_module(1024, 1024, frames)
    yield head + element(0x7FE00010, b"OW", b"")[:-4] + (frames << 21).to_bytes(4, "little")
    for number in range(frames):
        yield number.to_bytes(4, "little") + frame[4:]


def pieces_of_a_compressed_object(name: str, frames: int) -> Iterator[bytes]:
    """Yield an encapsulated data set with one fragment of 256 KiB a frame."""
    fragment = os.urandom(1 << 18)
    head = header(name) + image_module(1024, 1024, frames) + element(0x7FE00010, b"OB", b"")[:-4] + b"\xff" * 4
    yield head + bytes.fromhex("feff00e000000000")
    for number in range(frames):
        yield bytes.fromhex("feff00e0") + (1 << 18).to_bytes(4, "little") + number.to_bytes(4, "little") + fragment[4:]
    yield bytes.fromhex("feffdde000000000")


@pytest.mark.parametrize(
    ("pieces", "syntax"),
    [
        (pieces_of_a_large_object("2.5-gigabytes", 1250), EXPLICIT_LITTLE),
        (pieces_of_a_compressed_object("many-fragments", 2400), "1.2.840.10008.1.2.4.90"),
    ],
    ids=["2.5 GB multi-frame", "2400 fragments"],
)
def test_an_object_of_gigabytes_is_stored_with_fifty_megabytes_of_memory(
    node: Callable[..., Node], tmp_path: Path, pieces: Iterator[bytes], syntax: str
) -> None:
    if shutil.disk_usage(tmp_path).free < _FREE_DISK_FOR_LARGE:
        pytest.skip("less than 8 GB of disk is free")
    one = node(route=[])
    with Raw(one.dicom_port).opened() as peer:
        assert peer.store(small_image("warm-up", rows=1000), pdu_bytes=131072) == SUCCESS
    forget_peak(one)
    before = use_of(one).rss_mb
    digest, name = hashlib.sha256(), uid("2.5-gigabytes" if syntax == EXPLICIT_LITTLE else "many-fragments")
    contexts = {raw.STORE_CONTEXT: (CT_IMAGE, (syntax,)), raw.ECHO_CONTEXT: (raw.VERIFICATION, (IMPLICIT_LITTLE,))}
    with Raw(one.dicom_port, timeout_s=200) as peer:
        assert peer.associate(contexts).kind == raw.ASSOCIATE_AC
        peer.send(raw.p_data(raw.STORE_CONTEXT, raw.COMMAND | raw.LAST, raw.c_store_rq(CT_IMAGE, name)))
        for piece in pieces:
            digest.update(piece)
            peer.send(b"".join(_unfinished(piece)))
        peer.send(raw.p_data(raw.STORE_CONTEXT, raw.LAST, b""))
        answer = peer.receive()
        assert answer is not None
        assert answer.status == SUCCESS
        peer.release()
    assert peak_mb(one) - before < 50
    one.wait_until_settled()
    (path,) = [p for p in (one.data_dir / "spool" / "objects").rglob("*.dcm") if p.stat().st_size > 1 << 28]
    assert digest_of_data_set(path) == digest.hexdigest()
    assert peak_mb(one) - before < 50
    path.unlink()


def pieces_of_raw_data(name: str, megabytes: int) -> Iterator[bytes]:
    """Yield a data set without pixels: one private element of so many megabytes, as raw data and documents have."""
    piece = os.urandom(1 << 20)
    head = header(name) + element(0x00290010, b"LO", b"TESTS")
    yield head + element(0x00291010, b"OB", b"")[:-4] + (megabytes << 20).to_bytes(4, "little")
    for number in range(megabytes):
        yield number.to_bytes(4, "little") + piece[4:]
    yield element(0x00400275, b"SQ", b"")


def test_raw_data_without_pixels_takes_no_memory_of_the_node_either(node: Callable[..., Node]) -> None:
    """What parses headers must not be handed hundreds of megabytes because no pixel data follows."""
    one = node(route=[])
    assert one.process is not None
    before = use_of_process(one.process.pid).rss_mb
    most = 0.0
    name = "raw-data"
    with Raw(one.dicom_port, timeout_s=100).opened() as peer:
        peer.send(raw.p_data(raw.STORE_CONTEXT, raw.COMMAND | raw.LAST, raw.c_store_rq(CT_IMAGE, uid(name))))
        for piece in pieces_of_raw_data(name, 700):
            peer.send(b"".join(_unfinished(piece)))
        peer.send(raw.p_data(raw.STORE_CONTEXT, raw.LAST, b""))
        answer = peer.receive()
        assert answer is not None
        assert answer.status == SUCCESS
        peer.release()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        most = max(most, use_of_process(one.process.pid).rss_mb)
        time.sleep(0.02)
    one.wait_until_settled()
    assert most - before < 60
    assert troubles(one) == []


def _unfinished(piece: bytes) -> Iterator[bytes]:
    step = 131072 - 6
    for start in range(0, len(piece), step):
        yield raw.p_data(raw.STORE_CONTEXT, 0, piece[start : start + step])


def forget_peak(node: Node) -> None:
    """Let the kernel count the most memory from now on."""
    Path(f"/proc/{acceptor_pid(node)}/clear_refs").write_text("5", encoding="ascii")


def digest_of_data_set(path: Path) -> str:
    start = 144 + int(pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
