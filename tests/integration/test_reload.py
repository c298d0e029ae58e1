"""Settings that change while the node runs: whoever sends or is sent to at that moment notices nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.app import Service
from dicom_node.core.entities import DeliveryState
from dicom_node.core.errors import SettingsError
from dicom_node.core.principal import Principal
from dicom_node.roles.node import Node as NodeParts
from dicom_node.roles.settings import load_settings
from tests.integration.test_outbox import Owed
from tests.peers.dcmtk import echoscu, running_storescp, storescu
from tests.peers.line import Break, Line, holds_object
from tests.peers.node import Node, to_toml
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port, wait_until
from tests.support.needs import REPOSITORY
from tests.support.results.arrivals import opened_database
from tests.support.studies.data_factories import small_chest_ct

ALICE = Principal("alice")
ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}


def pacs(port: int, **more: Any) -> dict[str, Any]:
    return {"name": "pacs", "kind": "dicom", "ae_title": "STORESCP", "host": "127.0.0.1", "port": port,
            "verify": "none", **more}  # fmt: skip


class Delivering:
    """The role that delivers, in this process, with what it owes to `pacs`."""

    def __init__(self, owed: Owed, *destinations: dict[str, Any]) -> None:
        self.owed, self.config = owed, owed.folder / "node.toml"
        self.write(*destinations)
        self.node = NodeParts(load_settings(self.config, {}), None, self.config)
        self.service = Service(self.node, ["deliver"])

    def write(self, *destinations: dict[str, Any]) -> None:
        settings = {
            "node": {"data_dir": str(self.owed.folder)}, "route": [], "destination": list(destinations),
            # Whoever waits for the next attempt waits longer than any test.
            "delivery": {"first_retry_s": 36000, "max_retry_s": 36000},
        }  # fmt: skip
        self.config.write_text(to_toml(settings), encoding="utf-8")

    def reload(self, *destinations: dict[str, Any]) -> tuple[str, ...]:
        """The warnings of a reload with these destinations."""
        self.write(*destinations)
        return self.node.configuration.reload(ALICE).warnings


@pytest.fixture
def owed(tmp_path: Path) -> Iterator[Owed]:
    (tmp_path / "data").mkdir()
    with opened_database(f"sqlite:///{tmp_path / 'data' / 'node.sqlite'}") as database:
        yield Owed(tmp_path / "data", database)


@contextmanager
def delivering(owed: Owed, *destinations: dict[str, Any]) -> Iterator[Delivering]:
    one = Delivering(owed, *destinations)
    try:
        one.service.start()
        yield one
    finally:
        one.service.stop()


def test_what_waits_for_a_destination_that_moved_goes_to_where_it_is_now(
    owed: Owed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owed.add("s1")
    with delivering(owed, pacs(free_port())) as one, running_storescp(tmp_path / "moved") as moved:
        wait_until(lambda: "takes nothing" in caplog.text, 60, "the first attempt at the old address")
        assert one.reload(pacs(moved.port)) == ()
        wait_until(owed.is_delivered, 60, "delivery at the new address")

    assert len(moved.files()) == 2


def test_what_waits_for_a_destination_that_is_gone_stays_and_is_told_until_it_is_there_again(
    owed: Owed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owed.add("s1")
    folder = {"name": "other", "kind": "folder", "path": str(tmp_path / "other")}
    with delivering(owed, pacs(free_port())) as one, running_storescp(tmp_path / "back") as back:
        wait_until(lambda: "takes nothing" in caplog.text, 60, "the first attempt")
        (told,) = one.reload(folder)
        assert "Destination pacs is not configured, and 2 objects wait for it. Name a destination so again" in told
        assert owed.states() == {DeliveryState.PENDING: 2}
        one.reload(folder, pacs(back.port))
        wait_until(owed.is_delivered, 60, "delivery to the one that is back")

    assert len(back.files()) == 2


def test_what_is_on_its_way_ends_there_and_the_rest_goes_to_the_new_address(owed: Owed, tmp_path: Path) -> None:
    owed.add("s1", "s2")
    with running_storescp(tmp_path / "old") as old, running_storescp(tmp_path / "new") as new:
        line = Line(old.port, holds_object)
        line.breaks(Break.ANSWERED)
        with delivering(owed, pacs(line.port)) as one:
            assert line.reached.wait(60)
            one.reload()
            one.reload(pacs(new.port))
            line.let_answer_through()
            wait_until(owed.is_delivered, 60, "delivery")
        line.close()

    sent = [{str(data.SOPInstanceUID) for data in receiver.datasets()} for receiver in (old, new)]
    assert [len(uids) for uids in sent] == [2, 2]
    assert not sent[0] & sent[1]


def test_a_route_that_names_no_model_is_refused_and_everything_stays(owed: Owed) -> None:
    with delivering(owed, pacs(free_port())) as one:
        text = one.config.read_text(encoding="utf-8").replace("route = []\n", "")
        one.config.write_text(f'{text}\n[[route]]\nname = "x"\nmodel = "no-such"\n', encoding="utf-8")
        with pytest.raises(SettingsError, match="names model 'no-such'"):
            one.node.configuration.reload(ALICE)

        assert one.node.in_force.now().routes == ()


# --- a whole node --------------------------------------------------------------------------------------------------


def settings(peers: list[str], **more: Any) -> dict[str, Any]:
    return {"peer": [{"ae_title": one, "host": "127.0.0.1"} for one in peers], "route": [], **more}


def command(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dicom_node", *arguments, "--config", str(node.config)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_a_scanner_a_pacs_and_a_route_are_added_while_another_scanner_is_sending(
    tmp_path: Path, orthanc: Orthanc
) -> None:
    """The one that sends is taken off the list meanwhile; its association is let finish."""
    images = tmp_path / "images"
    images.mkdir()
    for image in small_chest_ct()[0]:
        image.save_as(images / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    node = Node(tmp_path / "node", settings(["OLD"]))
    node.start()
    line = Line(node.dicom_port, holds_object)
    line.breaks(Break.ANSWERED)
    sent: list[subprocess.CompletedProcess[str]] = []
    sender = threading.Thread(target=lambda: sent.append(storescu(line.port, images, calling="OLD")))
    try:
        assert echoscu(node.dicom_port, calling="NEW").returncode != 0
        sender.start()
        assert line.reached.wait(60)
        to_orthanc = pacs(orthanc.dicom_port, ae_title=orthanc.aet)
        node.configure(settings(["NEW"], destination=[to_orthanc], route=[ROUTE]))
        told = command(node, "reload")

        assert told.returncode == 0, told.stdout + told.stderr
        for change in ("peer OLD 127.0.0.1 is gone", "peer NEW 127.0.0.1 is new", "destination pacs is new",
                       "route ct is new"):  # fmt: skip
            assert f"\n  {change}\n" in told.stdout
        assert echoscu(node.dicom_port, calling="NEW").returncode == 0
        assert echoscu(node.dicom_port, calling="OLD").returncode != 0
        line.let_answer_through()
        sender.join(120)
        assert sent[0].returncode == 0, sent[0].stdout
        orthanc.wait_for(1, "SR", 120)
        _refuses_as_a_whole(node)
        _rules_after_a_kill(node)
    finally:
        line.close()
        node.kill9()


def _refuses_as_a_whole(node: Node) -> None:
    """What takes a restart is named by the API, which changes nothing, and by the page until it is done."""
    node.configure(settings(["OTHER"], dicom={"max_associations": 7}))
    with node.api() as api:
        refused = api.post("/api/v1/configuration/reload")
        assert refused.status_code == 409
        assert "at a restart only: dicom.max_associations." in refused.json()["detail"]
        wait_until(lambda: "at a restart only" in api.get("/api/v1/status").json()["settings_fault"], 30, "the fault")
        (running,) = api.get("/api/v1/configuration").json()
        assert running["needs_restart"] == ["dicom.max_associations"]
        assert "dicom_node_settings_current 0" in api.get("/metrics").text
    assert echoscu(node.dicom_port, calling="NEW").returncode == 0
    assert echoscu(node.dicom_port, calling="OTHER").returncode != 0


def _rules_after_a_kill(node: Node) -> None:
    """SIGHUP reads the file, as `systemctl reload` may; whatever a death in the midst of it leaves, the file rules."""
    node.configure(settings(["THIRD"]))
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGHUP)
    wait_until(lambda: echoscu(node.dicom_port, calling="THIRD").returncode == 0, 30, "the third scanner to be let in")
    node.configure(settings(["FOURTH"]))
    os.kill(node.process.pid, signal.SIGHUP)
    node.kill9()
    node.start(None, "--role", "receive")
    assert echoscu(node.dicom_port, calling="FOURTH").returncode == 0
    assert echoscu(node.dicom_port, calling="THIRD").returncode != 0
