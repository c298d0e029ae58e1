"""Prometheus, as a site would have it: scrapes the node and evaluates the rules, on loopback and in short steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.peers.process import Process, free_port
from tests.support.needs import tool

_CONFIGURATION = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: dicom-node
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """Asked by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60, trust_env=False)

    def is_ready(self) -> bool:
        try:
            return self._http.get("/status/runtimeinfo").is_success
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression. Raises `AssertionError` with what Prometheus says against it."""
        answer = self._http.get("/query", params={"query": expression})
        assert answer.is_success, f"{expression}: {answer.text}"
        return list(answer.json()["data"]["result"])

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """Return the labels of alerts that fire, by name."""
        alerts = self._http.get("/alerts").raise_for_status().json()["data"]["alerts"]
        found: dict[str, list[dict[str, str]]] = {}
        for one in alerts:
            if one["state"] == "firing":
                found.setdefault(one["labels"]["alertname"], []).append(one["labels"])
        return found

    def close(self) -> None:
        self._http.close()


@contextmanager
def running_prometheus(folder: Path, target: str, rules: Path) -> Iterator[Prometheus]:
    """Run it on any free port, with data in `folder`."""
    program, port = tool("prometheus", "prometheus"), free_port()
    shutil.copy(rules, folder / "rules.yml")
    configuration = folder / "prometheus.yml"
    configuration.write_text(_CONFIGURATION.format(rules="rules.yml", target=target), encoding="utf-8")
    process = Process(
        [program, f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
        folder / "prometheus.log",
    )  # fmt: skip
    server = Prometheus(port)
    try:
        process.wait_until_ready(server.is_ready)
        yield server
    finally:
        server.close()
        process.kill9()
