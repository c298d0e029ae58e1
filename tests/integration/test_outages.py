"""A node that can take nothing says so once for each door, and how much it did not take when it is over."""

from __future__ import annotations

import gc
import logging
import weakref
from pathlib import Path

import pytest

from dicom_node.ingest.intake import Intake, IntakeLimits
from dicom_node.receive.acceptor.admission import CallingPeer, Capacity
from dicom_node.receive.acceptor.incoming import IncomingObject
from dicom_node.receive.acceptor.messages import Messages
from dicom_node.receive.acceptor.negotiation import Context
from dicom_node.receive.acceptor.storing import AssociationRef, Storing
from dicom_node.storage.journal import JournalWriter
from dicom_node.storage.spool import Spool
from tests.integration.test_analysis_chain import received
from tests.peers.raw import COMMAND, LAST, STORE_CONTEXT, c_store_rq
from tests.support.results.arrivals import opened_database
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.small_images import CT_IMAGE, EXPLICIT_LITTLE, small_image

_TOLD = [("ERROR", "object not stored"), ("INFO", "objects are stored again")]


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.message) for one in caplog.records if (one.levelname, one.message) in _TOLD]


def test_objects_that_the_database_does_not_take_are_told_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    there, away = tmp_path / "there", tmp_path / "away"
    there.mkdir()
    limits = IntakeLimits(min_free_bytes=0, max_object_bytes=1 << 30)
    images = small_chest_ct()[0][:3]
    with opened_database(f"sqlite:///{there / 'index.sqlite'}") as database:
        intake = Intake(database, Spool(tmp_path / "spool"), limits, "receiver")
        database.close()
        there.rename(away)
        assert [int(intake.store(received(image))) for image in images] == [0xA700] * 3
        away.rename(there)
        assert [int(intake.store(received(image))) for image in images] == [0] * 3
    assert told(caplog) == _TOLD
    assert vars(caplog.records[-1])["failures"] == 3


def test_objects_that_the_acceptor_does_not_take_are_told_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    capacity = Capacity(tmp_path, 0)
    journal = JournalWriter(tmp_path / "journal", 2)
    journal.grow()
    storing = Storing(journal, capacity, lambda *_: None, lambda *_: 0)
    for number in range(20):
        capacity.unavailable_reason = "The database is away." if number < 19 else ""
        store(storing, capacity, tmp_path, f"{number}")
    assert told(caplog) == _TOLD
    assert vars(caplog.records[-1])["failures"] == 19


def test_an_association_leaves_no_buffer_that_waits_for_the_garbage_collector(tmp_path: Path) -> None:
    """The acceptor makes so little garbage that it may wait for hundreds of associations, each with 640 KiB."""
    capacity = Capacity(tmp_path, 0)
    journal = JournalWriter(tmp_path / "journal", 2)
    journal.grow()
    gc.disable()
    try:
        incoming = store(Storing(journal, capacity, lambda *_: None, lambda *_: 0), capacity, tmp_path, "1")
        assert incoming() is None
    finally:
        gc.enable()


def store(storing: Storing, capacity: Capacity, folder: Path, name: str) -> weakref.ref[IncomingObject]:
    """Send an object on an association of its own; return what is left of what it was collected in."""
    image = small_image(name)
    peer = CallingPeer(calling_ae_title="CT1", called_ae_title="AINODE", host="10.0.0.1")
    incoming = IncomingObject(Spool(folder / "spool"), "parts", 1 << 20, 1 << 17)
    association = AssociationRef(association_id=name, caller=peer)
    messages = Messages(lambda _: None, association, incoming, storing, capacity)
    context = Context(CT_IMAGE, EXPLICIT_LITTLE)
    for control, content in (
        (COMMAND | LAST, c_store_rq(image.sop_class_uid, image.sop_instance_uid)),
        (LAST, image.data_set),
    ):
        view = messages.buffer_for(len(content))
        view[:] = content
        messages.fragment(STORE_CONTEXT, context, control, view)
    return weakref.ref(incoming)
