"""One id leads from an association to what the EHR is sent: through log lines, the timeline, and the EHR's own log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
from sqlalchemy import select

from dicom_node.core.calls.requests import name_request, on_behalf_of, requests_in_work
from dicom_node.index.tables import events
from dicom_node.logs import JsonLines
from tests.integration.step_by_step_node import site
from tests.integration.test_analysis_chain import ASSOCIATION
from tests.peers.webhook_receiver import SECRET
from tests.support.api_client import client_of, parts_over, seeded_database
from tests.support.results import analysis_examples as examples


@contextmanager
def listening_web(heard: list[str]) -> Iterator[str]:
    """Serve what refuses everything, and keep for which request it was called."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            heard.append(self.headers.get("X-Request-Id", ""))
            self.send_response(422)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def written_log() -> Iterator[io.StringIO]:
    """Collect the lines of the node's log."""
    stream = io.StringIO()
    handler, log = logging.StreamHandler(stream), logging.getLogger("dicom_node")
    handler.setFormatter(JsonLines())
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def test_one_id_leads_from_the_association_to_every_receiver(tmp_path: Path) -> None:
    heard: list[str] = []
    with listening_web(heard) as url, written_log() as log:
        receivers = [
            {"kind": "fhir", "name": "ehr", "url": f"{url}/fhir"},
            {"kind": "dicomweb", "name": "web", "url": f"{url}/dicom-web"},
            {"kind": "webhook", "name": "hook", "url": f"{url}/hook", "secret": SECRET},
        ]
        with site(tmp_path / "node", receivers) as node:
            node.run(examples.ct_volume(slices=4, size=16))
            told = [row for row in node.rows(events) if ASSOCIATION in row.detail.get("requests", [])]
    lines = [line for line in map(json.loads, log.getvalue().splitlines()) if line.get("request") == ASSOCIATION]
    assert set(heard) == {ASSOCIATION}
    assert {line["event"] for line in lines} >= {"job ended", "object parked", "event parked"}
    assert {row.kind for row in told} >= {"analysed", "parked", "state"}


def test_ids_lie_within_each_other_and_end_with_their_work() -> None:
    with on_behalf_of(["call"]), on_behalf_of(["upload", "call"]):
        assert requests_in_work() == ("call", "upload")
    assert requests_in_work() == ()


def test_a_request_that_is_named_keeps_its_name() -> None:
    sent = httpx.Request("GET", "https://ehr.invalid", headers={"X-Request-Id": "own"})
    with on_behalf_of(["other"]):
        name_request(sent)
    assert sent.headers["X-Request-Id"] == "own"


def test_a_call_is_found_in_the_timeline_by_the_id_of_its_answer(tmp_path: Path) -> None:
    database = seeded_database(tmp_path)
    client = client_of(parts_over(database, tmp_path))
    listed = client.get("/api/studies").json()["studies"]
    uid = next(one["study_instance_uid"] for one in listed if one["state"] == "REPORTED")
    answer = client.post(f"/api/studies/{uid}/rerun")
    with database.read() as connection:
        told = [row.detail.get("requests") for row in connection.execute(select(events))]
    database.close()
    assert answer.status_code == 200
    assert [answer.headers["X-Request-Id"]] in told
