"""0x0000 means durable and findable: full disks, a stopped database, duplicates."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pydicom.dataset import Dataset

from tests.peers import raw
from tests.peers.dcmtk import running_storescp, storescu
from tests.peers.node import Node
from tests.peers.postgres import running_postgres
from tests.peers.process import free_port, wait_until
from tests.peers.raw import Raw
from tests.peers.sender import sending
from tests.support.acceptor_state import acceptor_pid, logged_errors, parts
from tests.support.needs import tool
from tests.support.results.folders import objects_in
from tests.support.results.stored_objects import assert_kept, kept_by
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.small_images import (
    CT_IMAGE,
    Image,
    small_image,
    uid,
)

pytestmark = pytest.mark.timeout(600)

SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH = 0x0000, 0xA700, 0xA900


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
        with self._paused():  # else the database may change between its files
            for path in self.data_dir.glob("node.sqlite*"):
                shutil.copy(path, self.folder)
        return f"sqlite:///{self.folder / 'node.sqlite'}"

    @contextmanager
    def _paused(self) -> Iterator[None]:
        assert self.process is not None
        pid = self.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 30, "the pause of the node")
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., NodeOnSmallDisk]]:
    nodes: list[NodeOnSmallDisk] = []

    def started(size_mb: int, *, through: tuple[str, ...] = (), **settings: Any) -> NodeOnSmallDisk:
        one = NodeOnSmallDisk(tmp_path / "small", size_mb, settings)
        one.launcher = (*through, *one.launcher)
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
        wait_until(lambda: peer.store(retried, pdu_bytes=131072) == SUCCESS, 60, "success on the same association", 0.5)
        acknowledged.append(retried)
        peer.release()

    assert (one.process, acceptor_pid(one)) == (process, acceptor)
    url = one.database_url()
    assert_kept(one, acknowledged, url=url)
    assert {kept.sop_instance_uid for kept in kept_by(one, url)} == {image.sop_instance_uid for image in acknowledged}
    assert parts(one) == []
    assert logged_errors(one) == []


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
    wait_until(lambda: not _comes_in(one), 60, "the refusal")

    with Raw(one.dicom_port) as peer:
        answer = peer.associate()
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (2, 3, 1))
    assert state_of(one, study)["deliveries"]["pending"] > 0
    with running_storescp(tmp_path / "pacs", port=port, aet="PACS") as pacs:
        wait_until(lambda: state_of(one, study)["deliveries"]["pending"] == 0, 120, "the delivery", 0.5)
        assert {"SR", "SEG"} <= {dataset.Modality for dataset in pacs.datasets()}

    (one.data_dir / "ballast").unlink()
    wait_until(lambda: _comes_in(one), 60, "admission")


def test_a_disk_that_sinks_below_the_reserve_within_an_association_is_answered_out_of_resources(
    small_disk: Callable[..., NodeOnSmallDisk],
) -> None:
    one = small_disk(120, node={"min_free_mb": 40}, dicom={"journal_mb": 4}, route=[])
    with Raw(one.dicom_port, timeout_s=60).opened() as peer:
        assert peer.store(small_image("above")) == SUCCESS
        one.wait_until_settled()
        fill_but(one.data_dir / "ballast", 30)
        images, kept = (small_image(f"below-{number}") for number in itertools.count()), [small_image("above")]
        # It looks at the disk now and then; what comes before it has looked is kept.
        while (status := peer.store(refused := next(images))) == SUCCESS:
            kept.append(refused)
            assert len(kept) < 10_000, "the disk was never found full"
        assert status == OUT_OF_RESOURCES
        (one.data_dir / "ballast").unlink()
        wait_until(lambda: peer.store(refused) == SUCCESS, 60, "success on the same association")
        peer.release()
    assert_kept(one, [*kept, refused], url=one.database_url())


def test_a_node_that_may_not_raise_its_priority_and_was_started_with_the_lowest_works(
    small_disk: Callable[..., NodeOnSmallDisk],
) -> None:
    """In its user namespace it is not root outside; what files would die of asking for more than it has."""
    one = small_disk(60, through=(tool("nice", "coreutils"), "-n", "19"), dicom={"journal_mb": 4}, route=[])
    with Raw(one.dicom_port).opened() as peer:
        assert peer.store(small_image("nicely")) == SUCCESS
        peer.release()
    assert_kept(one, [small_image("nicely")], url=one.database_url())
    assert logged_errors(one) == []


def test_a_full_disk_costs_no_study_its_analysis(small_disk: Callable[..., NodeOnSmallDisk], tmp_path: Path) -> None:
    """With one attempt for each: the study is innocent of the disk, and is analysed when there is space."""
    one = small_disk(
        160, dicom={"journal_mb": 4}, inference={"max_attempts": 1}, route=[{**CT_ROUTE, "quiet_period_s": 3.0}]
    )
    study = send_phantom(one, tmp_path, "no-space")
    one.wait_until_settled()
    fill_but(one.data_dir / "ballast", 0.5)  # enough for the database, too little for a result
    one.wait_for_event(lambda event: event["event"] == "job runner waits for the disk", 120)
    (one.data_dir / "ballast").unlink()
    (result,) = finished_results(one, study)
    assert result["state"] == "DONE"
    assert logged_errors(one) == []


def _comes_in(node: Node) -> bool:
    with Raw(node.dicom_port) as peer:
        return peer.associate().kind == raw.ASSOCIATE_AC


# --- a database that goes away ---


@pytest.mark.parametrize("trouble", ["stopped", "read-only"])
def test_a_database_that_is_away_is_answered_out_of_resources_and_the_node_recovers_by_itself(
    tmp_path: Path, trouble: str
) -> None:
    with running_postgres() as postgres:
        url = postgres.create_database()
        one = Node(tmp_path / "node", {"route": [], "database": {"url": url}})
        one.start()
        acceptor = acceptor_pid(one)
        images = (small_image(f"db-{number}", f"db-{number // 100}") for number in itertools.count())
        try:
            with sending(lambda: one.dicom_port, images, patience_s=30) as (sender,):
                wait_until(lambda: len(sender.acknowledged) > 50, 120, "the first images")
                if trouble == "stopped":
                    postgres.stop()
                else:
                    postgres.make_read_only(url)
                # An object that waits for a slot in vain is refused, too; meant is what comes once the node knows.
                one.wait_for_event(lambda event: event["event"] == "received objects wait in the journal")
                early = len(sender.refused)
                wait_until(lambda: len(sender.refused) > early, 60, "the first refusal")
                before, refused = len(sender.acknowledged), len(sender.refused)
                wait_until(lambda: len(sender.refused) > refused, 120, "another refusal")
                assert len(sender.acknowledged) == before, "success while the database was known to be down"
                assert {status for status, _ in sender.refused} == {OUT_OF_RESOURCES}
                assert httpx.get(f"http://127.0.0.1:{one.api_port}/readyz", timeout=60).status_code == 503
                if trouble == "stopped":
                    postgres.start()
                else:
                    postgres.make_writable(url)
                wait_until(lambda: len(sender.acknowledged) > before + 50, 120, "success again")
            assert sender.cut_off == 0
            assert one.process is not None
            assert one.process.exit_status is None
            assert acceptor_pid(one) == acceptor
            assert_kept(one, sender.acknowledged, url=url)
            assert httpx.get(f"http://127.0.0.1:{one.api_port}/readyz", timeout=60).status_code == 200
            assert logged_errors(one) == []
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


def contents_about(study: str, folder: Path) -> dict[str, bytes]:
    """Return the files that name this study."""
    return {path.name: data for path in objects_in(folder) if study.encode() in (data := path.read_bytes())}


def wait_until_a_later_study_is_done(node: Node) -> None:
    """Send one image of another study and wait for its end: whatever came before would have been taken up by then."""
    image = small_image("later", "later")
    with Raw(node.dicom_port).opened() as peer:
        assert peer.store(image) == SUCCESS
        peer.release()
    ends = {"REPORTED", "NOT_ANALYSED", "FAILED"}
    wait_until(lambda: state_of(node, image.study_instance_uid)["state"] in ends, 120, "the later study's end", 0.2)


def test_the_same_images_again_are_success_without_rows_or_a_second_analysis(
    reported: tuple[Node, list[Dataset], Path], tmp_path: Path
) -> None:
    one, slices, results = reported
    before, rows = contents_about(str(slices[0].StudyInstanceUID), results), len(kept_by(one))
    study = send_phantom(one, tmp_path, "again")
    one.wait_until_settled()
    assert len(kept_by(one)) == rows == len(slices)
    wait_until_a_later_study_is_done(one)
    assert len(finished_results(one, study)) == 1
    assert contents_about(study, results) == before


def test_other_pixels_under_a_known_uid_are_analysed_and_flagged_and_the_first_ones_are_kept(
    reported: tuple[Node, list[Dataset], Path], tmp_path: Path
) -> None:
    one, slices, _ = reported
    study = str(slices[0].StudyInstanceUID)
    slices[3].PixelData = bytes(len(slices[3].PixelData))
    sent = storescu(one.dicom_port, write(slices[3:4], tmp_path / "other"))
    assert sent.returncode == 0, sent.stdout[-400:]
    both = [kept for kept in kept_by(one) if kept.sop_instance_uid == slices[3].SOPInstanceUID]
    assert [kept.is_used for kept in both] == [False, True]
    assert both[0].data_set != both[1].data_set
    wait_until(lambda: state_of(one, study)["revision"] == 2, 60, "the next revision")
    assert len(finished_results(one, study)) == 2
    with one.api() as api:
        timeline = api.get(f"/api/studies/{study}/timeline").raise_for_status().text
    assert "The pixels changed." in timeline


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
