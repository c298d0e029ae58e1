"""The command line as an operator uses it: output, JSON, exit status, and what a failure says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

from tests.peers.node import Node
from tests.peers.process import free_port, wait_until
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct

ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with one study that was sent by the command line and reported to a PACS that is away."""
    folder = tmp_path_factory.mktemp("cli")
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    node = Node(folder / "node", {"route": [ROUTE], "destination": [pacs]})
    node.start()
    yield node
    node.kill9()


@pytest.fixture(scope="module")
def study(served: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The UID of the study, once it is reported."""
    folder = study_folder(tmp_path_factory.mktemp("images"))
    sent = run(served, "send", str(folder), "--to", peer(served), "--json", node=False)
    assert sent.returncode == 0, sent.stderr
    answers = json.loads(sent.stdout)
    assert len(answers) == 32
    assert all(one["stored"] and one["status"] == 0 for one in answers)
    uid = str(small_chest_ct()[0][0].StudyInstanceUID)
    wait_until(lambda: state(served, uid) == "REPORTED", 120, "the report", 1.0)
    return uid


def study_folder(folder: Path) -> Path:
    for image in small_chest_ct()[0]:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def run(served: Node, *arguments: str, node: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one command; with `node`, on the node's configuration."""
    configured = ["--config", str(served.config)] if node else []
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "dicom_node", *arguments, *configured],
        capture_output=True, text=True, timeout=120, check=False, cwd=served.folder, env=environment,
    )  # fmt: skip


def answer(served: Node, *arguments: str) -> Any:
    done = run(served, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def state(served: Node, uid: str) -> str:
    return str(answer(served, "status", uid)["study"]["study"]["state"])


def peer(served: Node) -> str:
    return f"{served.aet}@127.0.0.1:{served.dicom_port}"


def failure(served: Node, *arguments: str, node: bool = True) -> str:
    """Run a command that must fail; return the one line it says."""
    done = run(served, *arguments, node=node)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("dicom-node: ")
    return done.stderr


# --- what works ---


def test_echo_tells_whether_a_peer_answers(served: Node) -> None:
    assert "answered in" in run(served, "echo", peer(served)).stdout
    assert answer(served, "echo", peer(served))["answered"] is True


def test_status_names_what_peers_could_not_send_whichever_process_receives(served: Node) -> None:
    caller = AE("CT9")
    caller.add_requested_context("1.2.826.0.1.3680043.9.9999.1")
    caller.associate("127.0.0.1", served.dicom_port, ae_title=served.aet).release()
    wait_until(lambda: "CT9@127.0.0.1" in run(served, "status").stdout, 60, "the line of status", 1.0)
    told = run(served, "status").stdout
    assert "What peers proposed to send and the node does not take:" in told
    assert "1.2.826.0.1.3680043.9.9999.1" in told


def test_status_lists_studies_and_tells_one_studys_story(served: Node, study: str) -> None:
    (line,) = answer(served, "status")
    assert (line["study_instance_uid"], line["state"], line["instances"]) == (study, "REPORTED", 32)
    kinds = [entry["kind"] for entry in answer(served, "status", study)["timeline"]]
    assert [kinds.index(kind) for kind in ("received", "routed", "started", "analysed")] == sorted(
        kinds.index(kind) for kind in ("received", "routed", "started", "analysed")
    )
    shown = run(served, "status", study).stdout
    assert "REPORTED (revision 1)" in shown
    # The study's description and its kernel are called so as well as the patient.
    assert "PHANTOM" not in shown.upper().replace("CHEST CT PHANTOM", "").replace("KERNEL PHANTOM", "")
    for told in ("Left lung", "ml", "HU", "ct-lung-density DONE"):
        assert told in shown + run(served, "status").stdout
    assert study in run(served, "status").stdout


def test_rules_are_explained_for_a_study_and_for_files(served: Node, study: str, tmp_path: Path) -> None:
    (told,) = answer(served, "rules", "explain", study)
    assert told["routes"][0]["matched"] is True
    (tmp_path / "notes.txt").write_text("no image")
    (files,) = answer(served, "rules", "explain", str(study_folder(tmp_path)))
    assert files["study"] == study
    assert "must be" in run(served, "rules", "explain", study).stdout


def test_deliveries_are_retried_for_a_study_or_one_by_one(served: Node, study: str) -> None:
    numbers = answer(served, "retry", study)["deliveries"]
    assert numbers
    assert answer(served, "retry", "--delivery", str(numbers[0]))["deliveries"] == numbers[:1]
    assert "deliveries are due now" in run(served, "retry", study).stdout


def test_everything_for_a_destination_is_retried(served: Node, study: str) -> None:
    name = answer(served, "status", study)["study"]["deliveries"][0]["destination"]
    assert isinstance(answer(served, "retry", "--destination", name)["deliveries"], list)
    assert f"it has {name}" in failure(served, "retry", "--destination", "nobody")
    assert "Name either a study" in failure(served, "retry", study, "--destination", name)


def test_a_rerun_queues_the_study_and_ends_with_the_same_result(served: Node, study: str) -> None:
    assert len(answer(served, "rerun", study)["jobs"]) == 1
    wait_until(lambda: state(served, study) == "REPORTED", 120, "the report", 1.0)
    timeline = answer(served, "status", study)["timeline"]
    assert any("the earlier result stands" in entry["text"] for entry in timeline)
    (asked,) = [entry for entry in timeline if entry["text"].startswith("The operator asked to analyse again")]
    assert asked["actor"].startswith("cli:")
    assert asked["actor"] in run(served, "status", study).stdout


def test_models_are_listed_and_verified(served: Node) -> None:
    models = {row["name"]: row["verified"] for row in answer(served, "models", "list")}
    assert models["ct-lung-density"] == models["cxr-pneumonia"] == "yes"
    assert "ct-lung-density" in run(served, "models", "list").stdout


def test_doctor_checks_everything_and_fails_for_the_pacs_that_is_away(served: Node) -> None:
    done = run(served, "doctor", "--json")
    checks = json.loads(done.stdout)
    assert done.returncode == 1
    failed = [check for check in checks if not check["ok"]]
    assert any("pacs" in check["name"] for check in failed)
    assert all(check["advice"] for check in failed)
    assert "FAIL" in run(served, "doctor").stdout


def test_serve_runs_one_role_and_ends_in_order_on_sigterm(served: Node, tmp_path: Path) -> None:
    node = Node(tmp_path / "second", {"route": []})
    log = tmp_path / "log"
    argv = [sys.executable, "-m", "dicom_node", "serve", "--role", "receive", "--config", str(node.config)]
    with log.open("wb") as output, subprocess.Popen(argv, stderr=output, cwd=REPOSITORY) as process:
        wait_until(lambda: "node ready" in log.read_text(), 120, "the node")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert '"roles": ["receive"]' in log.read_text()
    assert "node stopped" in log.read_text()


def test_a_process_that_may_open_few_files_has_a_smaller_journal_and_says_what_would_help(tmp_path: Path) -> None:
    """64 associations with two files each, 128 connections that wait and 64 others leave 80 of 400 for the journal."""
    node = Node(tmp_path / "node", {"route": [], "dicom": {"journal_mb": 64}})
    node.launcher = ("prlimit", "--nofile=400:400")
    node.start(None, "--role", "receive")
    (told,) = [one for one in node.events() if one["event"] == "journal is smaller than configured"]
    assert told["slots"] == 80
    assert "LimitNOFILE=8192" in told["why"]
    assert run(node, "echo", peer(node)).returncode == 0
    node.stop()
    node.launcher = ("prlimit", "--nofile=256:256")
    with pytest.raises(RuntimeError, match=r"set dicom\.max_associations lower"):
        node.start(None, "--role", "receive")


_TO_BE_STOPPED_AT_ANY_MOMENT = """
import signal
from dicom_node.end import End
end = End()
signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
for microseconds in range(1, 400):
    for _ in range(5):
        signal.setitimer(signal.ITIMER_REAL, microseconds * 1e-6)
        end.wait()
"""


def test_a_signal_ends_the_wait_however_close_to_its_beginning_it_comes() -> None:
    subprocess.run([sys.executable, "-c", _TO_BE_STOPPED_AT_ANY_MOMENT], cwd=REPOSITORY, check=True, timeout=240)


def test_help_and_version_answer_without_a_configuration(served: Node) -> None:
    assert "dicom-node 0." in run(served, "--version", node=False).stdout
    assert "commands" in run(served, "--help", node=False).stdout


# --- what fails ---


def test_a_wrong_command_is_status_2(served: Node) -> None:
    assert run(served, "sreve", node=False).returncode == 2
    assert run(served, "serve", "--role", "cook", node=False).returncode == 2


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "@host:1", "PACS@host:99999", "A_MUCH_TOO_LONG_TITLE@host:1"])
def test_a_peer_that_is_mistyped_is_explained(served: Node, text: str) -> None:
    assert "is not AET@HOST:PORT" in failure(served, "echo", text, node=False)


def test_a_peer_that_is_away_is_named(served: Node) -> None:
    port = free_port()
    assert f"X@127.0.0.1:{port} cannot be reached" in failure(served, "echo", f"X@127.0.0.1:{port}")


def test_files_that_fail_for_one_reason_are_told_in_one_line_with_the_option_that_helps(
    served: Node, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    done = run(served, "send", str(study_folder(tmp_path)), "--to", f"OTHER@127.0.0.1:{served.dicom_port}", node=False)
    assert done.returncode == 1
    refused, unread, total = sorted(done.stdout.splitlines(), key=len, reverse=True)
    assert "and 31 more: " in refused
    assert "correct AET in AET@HOST:PORT" in refused
    assert "ried again" not in done.stdout, "nobody does"
    assert "notes.txt" in unread
    assert total.startswith("0 of 33 stored")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("echo", "OTHER@127.0.0.1:{port}"), "DeliveryDeferred"),
        (("status", "1.2.3"), "NotFound"),
        (("rules", "explain", "1.2.3"), "NotFound"),
        (("rerun", "1.2.3"), "NotFound"),
        (("retry",), "SettingsError"),
        (("models", "activate", "nobody"), "NotFound"),
        (("retrieve", "1.2.3"), "NotFound"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_script_reads_a_failure_as_json(served: Node, arguments: tuple[str, ...], kind: str) -> None:
    done = run(served, *(one.format(port=served.dicom_port) for one in arguments), "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == kind
    assert done.stderr == f"dicom-node: {error['text']}\n"


def test_all_times_are_told_alike_by_the_command_line_the_api_and_the_log(served: Node, study: str) -> None:
    with served.api() as api:
        told = [*map(json.dumps, (answer(served, "status"), answer(served, "status", study), served.events())),
                api.get("/api/studies").text, api.get(f"/api/studies/{study}").text]  # fmt: skip
    for text in told:
        assert re.search(r"T\d\d:\d\d:\d\d[.\d]*Z", text)
        assert "+00:00" not in text


def test_a_peer_that_knows_us_by_another_name_says_so(served: Node) -> None:
    assert "alled AE" in failure(served, "echo", f"OTHER@127.0.0.1:{served.dicom_port}")


def test_files_that_cannot_be_sent_are_told_one_by_one(served: Node, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM")
    done = run(served, "send", str(tmp_path), str(tmp_path / "none"), "--to", peer(served))
    assert done.returncode == 1
    assert "0 of 2 stored" in done.stdout
    assert "text.dcm" in done.stdout
    assert "Traceback" not in done.stderr


def test_nothing_to_send_is_a_failure(served: Node, tmp_path: Path) -> None:
    assert run(served, "send", str(tmp_path), "--to", peer(served)).returncode == 1


def test_studies_and_deliveries_that_do_not_exist_are_named(served: Node) -> None:
    assert "1.2.3" in failure(served, "status", "1.2.3")
    assert "1.2.3" in failure(served, "rerun", "1.2.3")
    assert "1.2.3" in failure(served, "retry", "1.2.3")
    assert "1.2.3" in failure(served, "rules", "explain", "1.2.3")
    assert "There is no delivery 999" in failure(served, "retry", "--delivery", "999")
    assert "Name either a study, --delivery" in failure(served, "retry")


def test_a_file_without_an_image_is_no_study(served: Node, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert "no DICOM image" in failure(served, "rules", "explain", str(tmp_path))


@pytest.mark.parametrize(
    "command",
    [
        ["status"], ["retry", "1.2"], ["rerun", "1.2"], ["audit", "rotate-key"], ["rules", "list"], ["rules", "replay"],
        ["rules", "revert", "chest-ct", "--reason", "x"], ["rules", "suspend", "chest-ct", "--reason", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_folder_without_a_node_is_told_and_no_node_is_made_there(
    served: Node, tmp_path: Path, command: list[str]
) -> None:
    empty = Node(tmp_path / "empty", {})
    before = sorted(empty.folder.rglob("*"))
    assert "There is no node in" in failure(served, *command, "--config", str(empty.config), node=False)
    assert sorted(empty.folder.rglob("*")) == before


def test_an_empty_database_is_told(served: Node, tmp_path: Path) -> None:
    """The server was named, but no node has ever run on it."""
    (tmp_path / "node.toml").write_text(f'[database]\nurl = "sqlite:///{tmp_path / "new.sqlite"}"\n')
    assert "no node has run on it" in failure(served, "status", "--config", str(tmp_path / "node.toml"), node=False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[dicom]\nprot = 1\n", "dicom.prot"),
        (
            '[dicom]\nport = 0\n[[route]]\nname = "r"\nmodel = "none"\n',
            "node.toml:7: Route 'r' names model 'none'",
        ),
        (
            '[dicom]\nport = 0\n[[route]]\nname = "r"\nmodel = "ct-lung-density"\nrank = ["sharpness"]\n',
            "node.toml:8: route.0.rank: ",
        ),
        (
            '[dicom]\nport = 0\n[[route]]\nname = "r"\nmodel = "ct-lung-density"\nwhen = { modalty = "CT" }\n',
            "node.toml:8: route.0.when: Attribute 'modalty': not collected. Did you mean modality?",
        ),
        (
            '[dicom]\nport = 0\n[database]\nurl = "postgresql+psycopg2://node@127.0.0.1/node?bogus=1&connect_timeout=5"\n',
            "dicom-node: database.url has the option bogus, which",
        ),
        (
            '[dicom]\nport = 0\n[database]\nurl = "postgresql+nothing://node@127.0.0.1/node"\n',
            "names the driver postgresql+nothing, which",
        ),
    ],
)
def test_a_configuration_that_cannot_work_does_not_start(served: Node, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "node.toml").write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n{text}')
    done = run(served, "serve", "--config", str(tmp_path / "node.toml"), node=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(served: Node, tmp_path: Path) -> None:
    text = f'[node]\ndata_dir = "{tmp_path / "data"}"\n[dicom]\nport = {served.dicom_port}\n'
    (tmp_path / "node.toml").write_text(text)
    done = run(served, "serve", "--config", str(tmp_path / "node.toml"), node=False)
    assert done.returncode == 1
    assert "dicom.port" in done.stderr
    assert "Traceback" not in done.stderr
