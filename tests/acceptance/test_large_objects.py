"""Objects of gigabytes go through the node with little memory, and come out as they went in."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from tests.peers import raw
from tests.peers.node import Node
from tests.peers.raw import Raw
from tests.support.acceptor_state import acceptor_pid, logged_errors, peak_mb, peak_of_mb, use_of, use_of_process
from tests.support.campaign import amount
from tests.support.studies.small_images import (
    CT_IMAGE,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    element,
    header,
    image_module,
    small_image,
    uid,
)

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(600, campaign=1800))]

SUCCESS = 0x0000
_FREE_DISK_FOR_LARGE = 8 << 30
#: Frames of 2 MB, fragments of 256 KiB, and megabytes of raw data: each many times the memory that may be used for it.
FRAMES, FRAGMENTS, RAW_MB = amount((320, 1400, 300), campaign=(1250, 2400, 700))


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
        (pieces_of_a_large_object("many-frames", FRAMES), EXPLICIT_LITTLE),
        (pieces_of_a_compressed_object("many-fragments", FRAGMENTS), "1.2.840.10008.1.2.4.90"),
    ],
    ids=["multi-frame", "fragments"],
)
def test_a_large_object_is_stored_with_fifty_megabytes_of_memory(
    node: Callable[..., Node], tmp_path: Path, pieces: Iterator[bytes], syntax: str
) -> None:
    if shutil.disk_usage(tmp_path).free < _FREE_DISK_FOR_LARGE:
        pytest.skip("less than 8 GB of disk is free")
    one = node(route=[])
    with Raw(one.dicom_port).opened() as peer:
        assert peer.store(small_image("warm-up", rows=1000), pdu_bytes=131072) == SUCCESS
    forget_peak(one)
    before = use_of(one).rss_mb
    digest, name = hashlib.sha256(), uid("many-frames" if syntax == EXPLICIT_LITTLE else "many-fragments")
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
    pid, name = one.process.pid, "raw-data"
    with Raw(one.dicom_port, timeout_s=100).opened() as peer:
        assert peer.store(small_image("warm-up")) == SUCCESS
        one.wait_until_settled()  # with all that is loaded for the first object
        forget_peak_of(pid)
        before = use_of_process(pid).rss_mb
        peer.send(raw.p_data(raw.STORE_CONTEXT, raw.COMMAND | raw.LAST, raw.c_store_rq(CT_IMAGE, uid(name))))
        for piece in pieces_of_raw_data(name, RAW_MB):
            peer.send(b"".join(_unfinished(piece)))
        peer.send(raw.p_data(raw.STORE_CONTEXT, raw.LAST, b""))
        answer = peer.receive()
        assert answer is not None
        assert answer.status == SUCCESS
        peer.release()
    one.wait_until_settled()
    assert peak_of_mb(pid) - before < 60
    assert logged_errors(one) == []


def _unfinished(piece: bytes) -> Iterator[bytes]:
    step = 131072 - 6
    for start in range(0, len(piece), step):
        yield raw.p_data(raw.STORE_CONTEXT, 0, piece[start : start + step])


def forget_peak(node: Node) -> None:
    """Let the kernel count the most memory from now on."""
    forget_peak_of(acceptor_pid(node))


def forget_peak_of(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def digest_of_data_set(path: Path) -> str:
    start = 144 + int(pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
