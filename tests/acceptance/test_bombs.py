"""Case 22: nesting 300 deep, a deflate bomb, 65,535 rows and columns with ten bytes: refused, or bad data in the end.

Meanwhile other associations are answered within a second.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.acceptance.test_bad_data import nested
from tests.peers import raw
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import Raw
from tests.support.acceptor_state import logged_errors
from tests.support.results.stored_objects import kept_by
from tests.support.studies.small_images import CT_IMAGE, Image, element, header, image_module, small_image, uid

pytestmark = pytest.mark.timeout(600)

SUCCESS, CANNOT_UNDERSTAND = 0x0000, 0xC000
DEFLATED = "1.2.840.10008.1.2.1.99"
ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}


def test_bombs_are_refused_or_end_as_bad_data_while_others_wait_less_than_a_second(
    node: Callable[..., Node], machine_stall_s: Callable[[], float]
) -> None:
    # Room for what the others bring while the disk is busy with something else.
    one = node(route=[ROUTE], stow={"enabled": True}, dicom={"journal_mb": 64})
    promised = [_promised(number) for number in range(22)]

    with _others_served(one) as waits:
        for depth in (300, 100_000):
            deep = Image(CT_IMAGE, uid("deep"), "", header("deep") + nested(depth))
            with Raw(one.dicom_port).opened() as peer:
                assert peer.store(deep) == CANNOT_UNDERSTAND
                peer.release()
        assert not _takes(one, DEFLATED)
        assert _uploaded(one, _deflated_bomb()) == 409
        with Raw(one.dicom_port).opened() as peer:
            taken = {peer.store(image) for image in promised}
            peer.release()
        assert taken <= {SUCCESS, CANNOT_UNDERSTAND}
        if SUCCESS in taken:
            wait_until(lambda: _ended(one, promised[0].study_instance_uid), 120, "the study to end", 0.5)

    assert len(waits) > 10
    assert max(waits) < 1.0 + machine_stall_s(), (max(waits), machine_stall_s())
    assert uid("deep") not in {kept.sop_instance_uid for kept in kept_by(one)}
    assert logged_errors(one) == []


def _promised(number: int) -> Image:
    """An image of 65,535 rows and columns of which ten bytes came; its patient and place are in order."""
    name = f"promised-{number}"
    place = b"".join(
        (
            element(0x00200032, b"DS", b"0\\0\\%d" % (number * 5)),
            element(0x00200037, b"DS", b"1\\0\\0\\0\\1\\0"),
            element(0x00200052, b"UI", b"1.2.3"),
        )
    )
    pixels = image_module(65535, 65535) + element(0x7FE00010, b"OW", bytes(10))
    data_set = header(name, "promised", b"Doe^Jane").replace(b"PHANTOM-promised", b"P-0000-promised0") + place + pixels
    return Image(CT_IMAGE, uid(name), small_image(name, "promised").study_instance_uid, data_set)


def _takes(node: Node, syntax: str) -> bool:
    """Whether the node accepts a presentation context of this transfer syntax alone."""
    with Raw(node.dicom_port) as peer:
        answer = peer.associate({raw.STORE_CONTEXT: (CT_IMAGE, (syntax,))})
        if answer.kind != raw.ASSOCIATE_AC:
            return False
        position = 68
        while position < len(answer.body):
            kind, length = answer.body[position], int.from_bytes(answer.body[position + 2 : position + 4], "big")
            if kind == 0x21:
                return answer.body[position + 6] == 0
            position += 4 + length
    raise AssertionError("the answer names no presentation context")


def _deflated_bomb() -> bytes:
    """A file of the deflated transfer syntax, half a megabyte that unfolds to five hundred."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = header("bomb") + image_module(8, 8)
    unfolded = b"".join(packer.compress(bytes(1 << 20)) for _ in range(500))
    data_set = packer.compress(head) + unfolded + packer.flush()
    meta = element(0x00020002, b"UI", CT_IMAGE.encode()) + element(0x00020003, b"UI", uid("bomb").encode())
    meta += element(0x00020010, b"UI", DEFLATED.encode())
    group_length = element(0x00020000, b"UL", len(meta).to_bytes(4, "little"))
    return bytes(128) + b"DICM" + group_length + meta + data_set


def _uploaded(node: Node, file: bytes) -> int:
    """Offer a file by STOW-RS; return the HTTP status."""
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    with node.api() as api:
        answer: httpx.Response = api.post("/dicom-web/studies", content=body, headers={"Content-Type": kind})
    return answer.status_code


def _ended(node: Node, study: str) -> bool:
    with node.api() as api:
        answer = api.get(f"/api/studies/{study}")
    if answer.status_code != 200:
        return False
    assert answer.json()["study"]["state"] != "REPORTED"
    return answer.json()["study"]["state"] in {"NOT_ANALYSED", "FAILED"}


@contextmanager
def _others_served(node: Node) -> Iterator[list[float]]:
    """Store a small image over and over from another association; yield how long each answer took, in seconds."""
    waits: list[float] = []
    over = threading.Event()

    def send() -> None:
        with Raw(node.dicom_port, timeout_s=60).opened() as peer:
            while not over.is_set():
                began = time.monotonic()
                assert peer.store(small_image(f"other-{len(waits)}", "other")) == SUCCESS
                waits.append(time.monotonic() - began)
                over.wait(0.1)
            peer.release()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()
