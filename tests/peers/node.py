"""The node itself as a process, configured by a file and driven from outside like any peer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from dicom_node.storage.journal import read_record, slots_in
from tests.peers.process import Process, wait_until
from tests.support.needs import REPOSITORY

READY_TIMEOUT_S = 120.0
#: Filing synchronises the whole file system, and with it what other tests write.
SETTLED_TIMEOUT_S = 120.0


class Node:
    """A node in `folder`: its configuration `node.toml`, its data in `data/`, its log lines in `node.log`.

    `settings` is the configuration as nested dicts; sections given replace keys of the test defaults (loopback,
    any free port, an answer within a second).
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "node.toml"
        self.log = folder / "node.log"
        self.aet = str(settings.get("node", {}).get("ae_title", "AINODE"))
        self.dicom_port = self.tls_port = self.api_port = 0
        #: By name, as the node has written them down.
        self.ports: dict[str, int] = {}
        self.process: Process | None = None
        #: A program and its arguments that runs the node, such as ``unshare``.
        self.launcher: tuple[str, ...] = ()
        self.configure(settings)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Write `node.toml`; takes effect at the next start."""
        defaults: dict[str, dict[str, Any]] = {
            "node": {"data_dir": str(self.data_dir), "min_free_mb": 0},
            "dicom": {"port": 0, "journal_mb": 16},
            "api": {"port": 0},
            # What is sent stays so, however long a test takes, unless it is about proof.
            "delivery": {"first_retry_s": 0.5, "max_retry_s": 2.0, "verify_after_s": 36000},
        }
        merged: dict[str, Any] = {**defaults, **settings}
        for section, values in defaults.items():
            merged[section] = {**values, **settings.get(section, {})}
        self.config.write_text(to_toml(merged), encoding="utf-8")

    def start(self, environment: Mapping[str, str] | None = None, *options: str) -> None:
        """Start it, with further `options` such as ``--role receive``, and wait until it listens; raises `RuntimeError`
        with the end of its log if it does not."""
        (self.data_dir / "ports.json").unlink(missing_ok=True)
        self.launch(environment, *options)
        assert self.process is not None
        self.process.wait_until_ready((self.data_dir / "ports.json").exists, READY_TIMEOUT_S)
        self.ports = json.loads((self.data_dir / "ports.json").read_text(encoding="utf-8"))
        self.dicom_port, self.tls_port, self.api_port = (
            int(self.ports.get(name) or 0) for name in ("dicom", "dicom_tls", "api")
        )

    def launch(self, environment: Mapping[str, str] | None = None, *options: str) -> None:
        """Start it and do not wait."""
        argv = [*self.launcher, sys.executable, "-m", "dicom_node", "serve", "--config", str(self.config), *options]
        path = {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        self.process = Process(argv, self.log, {**path, **(environment or {})})

    def stop(self) -> int:
        """Ask it to end and return the exit status."""
        return 0 if self.process is None else self.process.stop()

    def kill9(self) -> None:
        """End it and its workers at once, as a power cut would."""
        if self.process is not None:
            self.process.kill9()

    def wait_until_settled(self) -> None:
        """Wait until everything acknowledged so far is filed and indexed."""
        folder = self.data_dir / "journal"

        def settled() -> bool:
            return all(read_record(folder, slot) is None for slot in slots_in(folder))

        wait_until(settled, SETTLED_TIMEOUT_S, "the journal to be empty")

    def restart(self) -> None:
        """End it, if it still runs, and start it again on the same data; ports may change unless configured."""
        self.stop()
        self.start()

    @property
    def api_token(self) -> str:
        return (self.data_dir / "api-token").read_text(encoding="utf-8").strip()

    def api(self) -> httpx.Client:
        """A client of the admin API, with the token; close it, or use it in `with`."""
        headers = {"Authorization": f"Bearer {self.api_token}"}
        url = f"http://127.0.0.1:{self.api_port}"
        return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)

    def events(self) -> list[dict[str, Any]]:
        """The log lines that are JSON objects, oldest first."""
        return [json.loads(line) for line in self.log_lines() if line.startswith("{")]

    def log_lines(self) -> list[str]:
        """The whole lines of the log: the last one may just be written."""
        return self.log.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0].splitlines()

    def wait_for_event(self, matches: Callable[[dict[str, Any]], bool], timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a log line matches, and return the first that does."""
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            found[:] = [event for event in self.events() if matches(event)]
            return bool(found)

        wait_until(seen, timeout_s, "the expected log line", 0.1)
        return found[0]


def to_toml(settings: Mapping[str, Any]) -> str:
    """Write nested settings as TOML: tables, and lists of tables such as ``[[route]]``."""
    # An empty list has no tables to stand for it, and TOML wants plain keys first.
    lines = [f"{name} = []" for name, value in settings.items() if isinstance(value, list | tuple) and not value]
    for name, value in settings.items():
        for table in value if isinstance(value, list | tuple) else [value]:
            lines.append(f"[[{name}]]" if isinstance(value, list | tuple) else f"[{name}]")
            lines += [f"{json.dumps(key)} = {_toml_value(entry)}" for key, entry in table.items()]
            lines.append("")
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(entry) for entry in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
