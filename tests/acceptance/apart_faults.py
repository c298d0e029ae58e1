"""What may happen to a node of eight processes while a study comes in: a fault has ended when its function returns, and
one that the node can notice must have been told by then."""

from __future__ import annotations

import io
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from dicom_node.storage.journal import HEAD_BYTES, read_record, slot_path
from tests.acceptance.apart import INFERRERS, PARTS, Apart
from tests.acceptance.sent_phantoms import SentPhantom
from tests.acceptance.site import Site
from tests.peers.process import wait_until

#: A round takes about this long from the first image to the last delivery; a fault falls anywhere in it.
ROUND_S = 6.0
#: In a slot's head: where the text of the record begins, a byte or so behind magic, length and checksum.
_IN_HEAD = 64


@dataclass
class Round:
    """One study that is being sent to a receiver, whose name is `receiver`."""

    apart: Apart
    phantom: SentPhantom
    receiver: str
    sender: subprocess.Popen[str]
    chance: random.Random

    def wait_for_moment(self) -> None:
        """Let some part of the round pass."""
        time.sleep(self.chance.uniform(0.0, ROUND_S))

    def timeline(self) -> str:
        """What the node tells of the study."""
        return self.apart.site.timeline(self.phantom.study_instance_uid)

    def is_indexed(self) -> bool:
        """Tell whether the node knows the study."""
        with self.apart.site.node.api() as api:
            return api.get(f"/api/studies/{self.phantom.study_instance_uid}").status_code == httpx.codes.OK


#: Returns the SOP Instance UIDs of acknowledged images that the disk has lost, each of which the node has named.
Fault = Callable[[Round], set[str]]


# --- processes -------------------------------------------------------------------------------------------------------


def process_killed(now: Round) -> set[str]:
    now.wait_for_moment()
    name = now.chance.choice(list(PARTS))
    now.apart.kill9(name)
    now.apart.start(name)
    return set()


# --- the database ----------------------------------------------------------------------------------------------------


def database_restarted(now: Round) -> set[str]:
    now.wait_for_moment()
    now.apart.postgres.stop()
    now.apart.wait_until_told("the database is stopped")
    now.apart.postgres.start()
    return set()


def database_read_only(now: Round) -> set[str]:
    now.wait_for_moment()
    with _read_only(now.apart):
        time.sleep(now.chance.uniform(0.0, 3.0))
    return set()


def connections_cut(now: Round) -> set[str]:
    now.wait_for_moment()
    for _ in range(3):
        now.apart.postgres.end_clients(now.apart.database_url)
        time.sleep(now.chance.uniform(0.1, 0.5))
    return set()


def database_frozen(now: Round) -> set[str]:
    now.wait_for_moment()
    with now.apart.postgres.frozen():
        now.apart.wait_until_told("the database hangs")
        time.sleep(now.chance.uniform(0.0, 3.0))
    return set()


def database_slow(now: Round) -> set[str]:
    """At work for a twentieth of the time, from the first image on."""
    until = time.monotonic() + ROUND_S
    while time.monotonic() < until:
        with now.apart.postgres.frozen():
            time.sleep(0.19)
        time.sleep(0.01)
    return set()


@contextmanager
def _read_only(apart: Apart) -> Iterator[None]:
    apart.postgres.make_read_only(apart.database_url)
    try:
        apart.wait_until_told("the database is read-only")
        yield
    finally:
        apart.postgres.make_writable(apart.database_url)


# --- the hospital around it ------------------------------------------------------------------------------------------


@contextmanager
def hospital_away(site: Site) -> Iterator[None]:
    """Take PACS and EHR away."""
    site.pacs.kill9()
    site.ehr.set(fail={"count": 1_000_000, "status": 503})
    try:
        yield
    finally:
        site.ehr.set(fail=None)
        site.pacs.start()


def pacs_and_ehr_restarted(now: Round) -> set[str]:
    now.wait_for_moment()
    with hospital_away(now.apart.site):
        time.sleep(now.chance.uniform(0.0, 4.0))
    return set()


# --- the disk --------------------------------------------------------------------------------------------------------


def disk_full(now: Round) -> set[str]:
    now.wait_for_moment()
    ballast = now.apart.data_dir / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            # What an analysis that ends meanwhile gives back is filled as well.
            now.apart.wait_until_told("the disk is full", meanwhile=lambda: _fill(file))
            time.sleep(now.chance.uniform(0.0, 4.0))
        finally:
            ballast.unlink()
    return set()


def _fill(file: io.FileIO) -> None:
    with suppress(OSError):
        while True:
            file.write(bytes(1 << 20))


def images_damaged(now: Round) -> set[str]:
    """Bits flip in images between filing and analysis: the study is refused, naming them."""
    apart = now.apart
    with apart.suspended(*INFERRERS):  # nothing is analysed before it has come whole
        now.sender.wait(300)
        apart.wait_until_settled()
        files = now.phantom.files_in(apart.data_dir)
        hurt = set(now.chance.sample(sorted(files), now.chance.randint(1, 3)))
        for uid in hurt:
            size = files[uid].stat().st_size
            _flip_bit(files[uid], now.chance.randrange(size // 2, size))
    wait_until(lambda: apart.damaged()["images"] == len(hurt), 120, "the damaged images to be told", 0.2)
    wait_until(lambda: "are damaged (sha256 differs)" in now.timeline(), 120, "the study to be refused", 0.2)
    assert all(uid in now.timeline() for uid in hurt), now.timeline()
    return hurt


def slots_damaged(now: Round) -> set[str]:
    """Bits flip in slots that a killed receiver has left full: in one head of each, which costs nothing, and in the
    pixels of one, which is set aside and named."""
    apart, folder = now.apart, now.apart.journal(now.receiver)
    with _read_only(apart):
        wait_until(lambda: bool(apart.full_slots(now.receiver)), 60, "an image that cannot be filed", 0.01)
        apart.kill9(now.receiver)
        now.sender.wait(300)
    full = {slot: read_record(folder, slot) for slot in apart.full_slots(now.receiver)}
    for slot in full:
        _flip_bit(slot_path(folder, slot), _IN_HEAD)
    slot, record = now.chance.choice(sorted(full.items(), key=lambda pair: pair[0]))
    assert record is not None
    _flip_bit(slot_path(folder, slot), HEAD_BYTES + record.payload_bytes - 1)
    apart.start(now.receiver)
    told = apart.parts[now.receiver].wait_for_event(
        lambda event: (
            event["event"] == "a damaged record of the journal was set aside"
            and event["sop_instance"] == record.sop_instance_uid
        )
    )
    assert told["acknowledged"] == "yes", told
    assert Path(told["kept_as"]).name in {path.name for path in (folder / "damaged").iterdir()}
    return {record.sop_instance_uid}


def results_damaged(now: Round) -> set[str]:
    """A bit flips in each result of a study while PACS and EHR are away: none is sent, and a rerun makes them again."""
    apart, uid = now.apart, now.phantom.study_instance_uid
    with hospital_away(apart.site):
        wait_until(lambda: now.is_indexed() and bool(apart.site.study(uid)["results"]), 300, "the analysis", 0.2)
        kept = [artifact["sha256"] for result in apart.site.study(uid)["results"] for artifact in result["artifacts"]]
        files = [next((apart.data_dir / "spool" / "objects" / sha256[:2]).glob(f"{sha256}.*")) for sha256 in kept]
        for path in files:
            _flip_bit(path, now.chance.randrange(path.stat().st_size))
    wait_until(lambda: apart.site.study(uid)["study"]["deliveries"]["parked"] == len(files), 120,
               "the damaged results to be parked", 0.2)  # fmt: skip
    assert apart.damaged()["results"] == len(files)
    assert now.timeline().count("The stored file of a result is damaged or gone") == len(files), now.timeline()
    with apart.site.node.api() as api:
        api.post(f"/api/studies/{uid}/rerun", json={}).raise_for_status()
    return set()


def _flip_bit(path: Path, at: int) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


#: In this order; a sample of a campaign makes the first ones.
FAULTS: tuple[Fault, ...] = (
    process_killed, disk_full, images_damaged, slots_damaged, results_damaged, database_frozen,
    process_killed, database_restarted, database_slow, process_killed, connections_cut, database_read_only,
    process_killed, pacs_and_ehr_restarted,
)  # fmt: skip
