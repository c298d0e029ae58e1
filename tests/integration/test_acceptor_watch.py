"""An acceptor that does not answer any more, or whose disk takes nothing: noticed, told, and mended where it can be."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config.settings import Settings
from dicom_node.receive.events import ReceiveEvents
from dicom_node.receive.process import AcceptorProcess
from dicom_node.receive.start import start_acceptor
from dicom_node.storage.folder import DiskTrial
from tests.peers.dcmtk import echoscu
from tests.peers.process import wait_until


@pytest.fixture
def acceptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AcceptorProcess]:
    monkeypatch.setattr("dicom_node.receive.process._ASK_EVERY_S", 0.1)
    settings = Settings.model_validate(
        {"node": {"data_dir": tmp_path, "min_free_mb": 0}, "dicom": {"port": 0, "journal_mb": 16}}
    )
    one = start_acceptor(settings)
    one.attend(ReceiveEvents())
    one.wait_until_ready()
    yield one
    one.stop()


def test_a_frozen_acceptor_is_not_ready_and_another_takes_its_place(acceptor: AcceptorProcess) -> None:
    frozen = acceptor._process
    os.kill(frozen.pid, signal.SIGSTOP)
    wait_until(lambda: not acceptor.is_serving, 60, "that the acceptor is not ready")
    assert frozen.wait(60) == -signal.SIGKILL
    wait_until(lambda: acceptor.is_serving, 60, "another acceptor")
    assert acceptor._process.pid != frozen.pid
    assert echoscu(acceptor.ports["dicom"]).returncode == 0


def test_an_acceptor_that_goes_on_is_ready_again_and_stays(
    acceptor: AcceptorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.receive.process._FROZEN", 10**6)
    before = acceptor._process.pid
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: not acceptor.is_serving, 60, "that the acceptor is not ready")
    os.kill(before, signal.SIGCONT)
    wait_until(lambda: acceptor.is_serving, 60, "its answer")
    assert acceptor._process.pid == before


@pytest.mark.parametrize("folder", ["spool", "journal"])
def test_a_folder_that_cannot_be_written_is_not_ready(acceptor: AcceptorProcess, tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).rename(tmp_path / "elsewhere")
    wait_until(lambda: not acceptor.is_serving, 60, "that the node is not ready")
    (tmp_path / "elsewhere").rename(tmp_path / folder)
    wait_until(lambda: acceptor.is_serving, 60, "that the node is ready again")


def test_what_is_wrong_with_the_disk_is_said_with_the_path(tmp_path: Path) -> None:
    trial = DiskTrial((tmp_path, tmp_path / "gone"), "me")
    trial.once()
    assert trial.fault() == f"{tmp_path / 'gone' / '.trial-me'}: No such file or directory"
    (tmp_path / "gone").mkdir()
    trial.once()
    assert trial.fault() == ""


def test_a_disk_that_hangs_is_said_while_it_hangs(tmp_path: Path) -> None:
    now_s, while_hanging = [0.0], []

    def clock_s() -> float:
        return now_s[0]

    class Slow(type(tmp_path)):  # type: ignore[misc]
        def __truediv__(self, name: str) -> Path:
            now_s[0] += 21  # the write has begun, and the disk has taken nothing
            while_hanging.append(trial.fault())
            return Path(self) / name

    trial = DiskTrial((Slow(tmp_path),), "me", clock_s)
    trial.once()
    assert while_hanging == ["the disk has not taken a few bytes for 20 s"]
    assert trial.fault() == ""
