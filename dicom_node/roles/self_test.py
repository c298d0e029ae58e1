"""Sends a synthetic study through the whole node once a day, as a modality would: own port, index, completeness, route,
inference, objects. Nothing of it is owed to anybody (`index.alarms.self_tests`), and it is removed afterwards."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from pydicom.dataset import Dataset

from dicom_node.core.alarms.rules import SELF_TEST_FAILED, SELF_TEST_TITLE
from dicom_node.core.entities import JobState, StudyState
from dicom_node.core.errors import NodeError
from dicom_node.demo.phantoms import chest_ct_phantom, chest_radiograph_phantom
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import send_files
from dicom_node.index.alarms.self_tests import (
    SelfTestProgress,
    begin_self_test,
    end_self_test,
    has_begun,
    left_self_tests,
    remove_self_test,
    self_test_progress,
)
from dicom_node.index.alarms.signs import note_sign
from dicom_node.index.due import now_in
from dicom_node.receive.start import own_host
from dicom_node.roles.node import Node

_LOOK_EVERY_S, _ANSWERED_WITHIN_S = 0.5, 30.0
_ENDED = (StudyState.REPORTED, StudyState.NOT_ANALYSED, StudyState.FAILED)
_ANSWERED = (JobState.DONE, JobState.PARTIAL)
_log = logging.getLogger(__name__)


class StageFailed(NodeError):
    """A stage of the self-test did not come to its end; the message names it."""


class SelfTest:
    """The self-test of a node that receives; `port` tells where. To be run every half minute."""

    def __init__(self, node: Node, port: Callable[[], int]) -> None:
        self._node = node
        self._port = port
        self._settings = node.settings.selftest
        self._zone = ZoneInfo(node.settings.node.time_zone) if node.settings.node.time_zone else None
        self._stopping = threading.Event()
        self._is_new = True

    def stop(self) -> None:
        """Go on no longer; a study that is under way is removed by the next run."""
        self._stopping.set()

    def run(self) -> None:
        """Test the node if that is due today and nobody has begun it. Raises `IndexUnavailable`."""
        with self._node.database.read() as connection:
            now = now_in(connection)
            local = now.astimezone(self._zone)
            day = f"{local:%Y-%m-%d}"
            is_due = f"{local:%H:%M}" >= self._settings.at and not has_begun(connection, day)
        if self._is_new or is_due:
            self._tidy()
            self._is_new = False
        if not is_due:
            return
        images = self._phantom(f"selftest {self._node.spool.name} {day}")
        uid = str(images[0].StudyInstanceUID)
        with self._node.database.write() as connection:
            if not begin_self_test(connection, day, uid, now):
                return
        self._test(uid, images)

    def _phantom(self, seed: str) -> list[Dataset]:
        if self._settings.phantom == "chest-radiograph":
            return [chest_radiograph_phantom(seed, age="040Y", view="PA")]
        return chest_ct_phantom(seed)[0]

    def _test(self, uid: str, images: list[Dataset]) -> None:
        fault = ""
        try:
            self._send(images)
            self._watch(uid, len(images))
        except NodeError as error:
            fault = str(error)
        if self._stopping.is_set():
            return
        with self._node.database.write() as connection:
            now = now_in(connection)
            end_self_test(connection, uid, fault, now)
            note_sign(connection, SELF_TEST_FAILED.code, "", fault, now)
        _log.log(logging.ERROR if fault else logging.INFO, "self-test ended", extra={"study": uid, "why": fault})
        self._tidy()

    def _send(self, images: list[Dataset]) -> None:
        node = self._node
        with _stage("send", "the node does not take it on its own port"), _written(images, node.work_dir) as folder:
            remote = Remote(own_host(node.settings), self._port(), node.settings.node.ae_title, SELF_TEST_TITLE,
                            _ANSWERED_WITHIN_S)  # fmt: skip
            failed = [one for one in send_files([folder], remote) if one.status != 0]
            if failed:
                raise StageFailed(f"{len(failed)} of {len(images)} images were not taken: {failed[0].note}")

    def _watch(self, uid: str, images: int) -> None:
        """Wait for one stage after the other. Raises `StageFailed` with the first that is not reached."""
        deadline = time.monotonic() + 60 * self._settings.limit_minutes
        for stage, is_reached, why in (
            ("index", lambda found: found.images >= images, "not all of its images were entered"),
            ("completeness", lambda found: found.study_state not in ("", StudyState.RECEIVING),
             "it was not found complete"),
            ("route", lambda found: bool(found.job_states) or found.study_state in _ENDED, "no route decided on it"),
            ("inference", lambda found: found.study_state in _ENDED, "no analysis of it ended"),
        ):  # fmt: skip
            if not self._is_reached(uid, is_reached, deadline):
                raise StageFailed(f"Stage {stage}: {why} within {self._settings.limit_minutes:g} minutes.")
        with self._node.database.read() as connection:
            self._judge(self_test_progress(connection, uid))

    def _judge(self, found: SelfTestProgress) -> None:
        if not found.job_states:
            raise StageFailed("Stage route: no route wanted it. Let selftest.phantom be what a route wants.")
        if not any(state in _ANSWERED for state in found.job_states):
            why = ", ".join(found.reasons) or "no reason is told"
            raise StageFailed(f"Stage inference: no analysis of it came to a result ({why}).")
        lacking = [key for key in found.object_keys if not self._node.spool.is_whole(key)]
        if lacking or not found.object_keys:
            raise StageFailed(f"Stage objects: {len(lacking)} of {len(found.object_keys)} objects are not whole.")

    def _is_reached(self, uid: str, is_reached: Callable[[SelfTestProgress], bool], deadline: float) -> bool:
        while True:
            with self._node.database.read() as connection:
                found = self_test_progress(connection, uid)
            if is_reached(found):
                return True
            if time.monotonic() > deadline or self._stopping.wait(_LOOK_EVERY_S):
                return False

    def _tidy(self) -> None:
        """Take every self-test study out again, those of before that came late, too."""
        with self._node.database.read() as connection:
            longest = timedelta(minutes=2 * self._settings.limit_minutes)
            left = left_self_tests(connection, now_in(connection) - longest)
        for uid in left:
            with self._node.database.write() as connection:
                keys = remove_self_test(connection, uid)
            for key in keys:
                self._node.spool.remove(key, 0.0)


@contextmanager
def _stage(name: str, why: str) -> Iterator[None]:
    try:
        yield
    except StageFailed as error:
        raise StageFailed(f"Stage {name}: {error}") from error
    except (NodeError, OSError) as error:
        raise StageFailed(f"Stage {name}: {why}. {error}") from error


@contextmanager
def _written(images: list[Dataset], work_dir: Path) -> Iterator[Path]:
    work_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work_dir, prefix="selftest-") as name:
        for number, image in enumerate(images):
            image.save_as(Path(name) / f"{number:04}.dcm", enforce_file_format=True)
        yield Path(name)
