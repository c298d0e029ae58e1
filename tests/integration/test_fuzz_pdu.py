"""Recorded connections of real senders, mutated by the thousand: the node answers the next echo, whatever was said.

`FUZZ_SECONDS` sets how long; `make fuzz` takes ten minutes, as a campaign does. Every mutant follows from its number:
a failure names the numbers of its batch, and `FUZZ_FIRST` starts there.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation, UserIdentityNegotiation
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from tests.integration.pdu_mutations import Pdus, mutant, split
from tests.integration.test_commitment import references
from tests.peers.dcmtk import dcmsend, echoscu, run, storescu
from tests.peers.node import Node
from tests.peers.raw import Raw
from tests.peers.recorder import Recorder, recording
from tests.support.acceptor_state import Use, back_at, log_lines, logged_errors, quiet, use_of
from tests.support.campaign import amount
from tests.support.results.stored_objects import kept_by
from tests.support.studies.small_images import small_image

SECONDS = float(os.environ.get("FUZZ_SECONDS") or amount(12, campaign=600))
FIRST = int(os.environ.get("FUZZ_FIRST") or 0)
SEED = 20261121
BATCH, PEERS = 200, 4
#: However slow the machine: in so many batches there is something of everything.
FEWEST_BATCHES = 5
PDU_TIMEOUT_S, NETWORK_TIMEOUT_S = 2.0, 3.0
MOST_MEMORY_MB = 60.0

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(SECONDS + 240)]


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    limits = {"pdu_timeout_s": PDU_TIMEOUT_S, "network_timeout_s": NETWORK_TIMEOUT_S, "max_object_mb": 4}
    node = Node(tmp_path_factory.mktemp("fuzz"), {"route": [], "dicom": limits})
    node.start()
    yield node
    node.kill9()


# --- seeds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds(listener: Node, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Pdus]:
    """What senders of two makes said in associations that all went well."""
    folder = tmp_path_factory.mktemp("sent")
    images = [small_image(f"fuzz-{rows}", "fuzz", rows=rows).save(folder) for rows in (8, 64, 800)]
    with recording(listener.dicom_port) as recorder:
        _dcmtk_speaks(recorder, images)
        _pynetdicom_speaks(recorder, images)
    recorded = [split(bytes(said)) for said in recorder.said]
    assert len(recorded) >= 10
    assert all(pdus[0][0] == 1 for pdus in recorded)
    return recorded


def _dcmtk_speaks(recorder: Recorder, images: Sequence[Path]) -> None:
    identified = ("-usr", "operator", "-pwd", "secret", "-rsp")
    ends = [
        echoscu(recorder.port),
        run("echoscu", "-aec", "AINODE", "--propose-pc", "128", "127.0.0.1", str(recorder.port)),
        storescu(recorder.port, *images),
        storescu(recorder.port, images[0], options=("-xi",)),
        storescu(recorder.port, images[1], options=("-pdu", "4096")),
        storescu(recorder.port, images[0], options=identified),
        dcmsend(recorder.port, *images[:2]),
    ]
    storescu(recorder.port, images[0], options=("--abort",))
    assert [end.returncode for end in ends] == [0] * len(ends), [end.stdout[-500:] for end in ends]


def _pynetdicom_speaks(recorder: Recorder, images: Sequence[Path]) -> None:
    dataset = pydicom.dcmread(images[0])
    with _associated(recorder) as association:
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(dataset).Status == 0
    with _associated(recorder) as association:
        wanted = references((str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)))
        status, _ = association.send_n_action(wanted, 1, StorageCommitmentPushModel, UID("1.2.840.10008.1.20.1.1"))
        assert status.Status == 0


@contextlib.contextmanager
def _associated(recorder: Recorder) -> Iterator[Any]:
    """An association that negotiates all there is to negotiate."""
    ae = AE(ae_title="MOD1")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    for sop_class in (Verification, CTImageStorage, StorageCommitmentPushModel):
        ae.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    user = UserIdentityNegotiation()
    user.user_identity_type, user.primary_field, user.secondary_field = 2, b"operator", b"secret"
    user.positive_response_requested = True
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = CTImageStorage, b"\2\0\3\0\0\0"
    role = build_role(StorageCommitmentPushModel, scu_role=True)
    association = ae.associate("127.0.0.1", recorder.port, ae_title="AINODE", ext_neg=[user, extended, role])
    assert association.is_established
    yield association
    association.release()


# --- mutants ---------------------------------------------------------------------------------------------------------


def say(port: int, number: int, seeds: Sequence[Pdus]) -> None:
    """Say the mutant of this number, at once or in pieces, and end the connection one way or another."""
    chance = random.Random(SEED + number)
    data = mutant(seeds, chance)
    # Each from an address of its own: of one address only a few refusals a minute are told line by line.
    own = (f"127.2.{number // 250 % 250}.{number % 250 + 1}", 0)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5, own) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cut = chance.randrange(len(data)) if data and chance.random() < 0.3 else 0
        connection.sendall(data[:cut])
        connection.sendall(data[cut:])
        match chance.randrange(4):
            case 0:  # a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 1:  # the end, as soon as it is said
                pass
            case _:  # the end, after listening a while
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.2)
                while connection.recv(65536):
                    pass


def say_batch(port: int, first: int, seeds: Sequence[Pdus]) -> None:
    """Say `BATCH` mutants, several at a time."""

    def speak(peer: int) -> None:
        for number in range(first + peer, first + BATCH, PEERS):
            say(port, number, seeds)

    threads = [threading.Thread(target=speak, args=(peer,)) for peer in range(PEERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def assert_unmoved(node: Node, before: Use, line: int, machine_stall_s: Callable[[], float]) -> None:
    """The node answers at once, its log has no traceback, and it holds no more than a batch can hold open."""
    began = time.monotonic()
    with Raw(node.dicom_port, timeout_s=60).opened() as peer:
        assert peer.echo() == 0
        peer.release()
    assert time.monotonic() - began < 2.0 + machine_stall_s()
    assert logged_errors(node, line) == []
    now = use_of(node)
    assert now.threads <= before.threads + BATCH, (before, now)
    assert now.descriptors <= before.descriptors + 2 * BATCH, (before, now)
    assert now.rss_mb <= before.rss_mb + MOST_MEMORY_MB, (before, now)


def test_no_mutant_of_a_real_connection_stops_the_node_or_leaves_anything_behind(
    listener: Node, seeds: Sequence[Pdus], machine_stall_s: Callable[[], float]
) -> None:
    say_batch(listener.dicom_port, FIRST, seeds)  # what is made once for all is made before the count
    before = quiet(listener)
    until, first, line = time.monotonic() + SECONDS, FIRST + BATCH, 0
    while time.monotonic() < until or first < FIRST + BATCH * FEWEST_BATCHES:
        try:
            assert_unmoved(listener, before, line, machine_stall_s)
        except (AssertionError, OSError) as error:
            raise AssertionError(f"after mutants {first} to {first + BATCH - 1} (FUZZ_FIRST={first})") from error
        line = len(log_lines(listener))
        first += BATCH

    back_at(listener, before, PDU_TIMEOUT_S + NETWORK_TIMEOUT_S + 60, MOST_MEMORY_MB)
    assert_filed(listener)
    ends = Counter(event["event"] for event in listener.events())
    deep = ("association aborted", "association ended", "association rejected", "object refused", "connection closed")
    assert all(ends[event] for event in deep), f"the mutants did not get deep: {ends}"
    print(f"{first - FIRST} mutants of {len(seeds)} connections; {dict(ends)}; {use_of(listener)}")


def assert_filed(node: Node) -> None:
    """Whatever was acknowledged is in the index and can be listed."""
    assert len(kept_by(node)) > 3, "no mutant was stored"
    with node.api() as api:
        studies = api.get("/api/studies").raise_for_status().json()
    assert studies
    assert logged_errors(node) == []
