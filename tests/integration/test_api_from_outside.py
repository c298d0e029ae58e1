"""The API as others find it, from its description alone: no request breaks it, and a generated client works."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicom_node.api.access import Access
from dicom_node.api.server import ApiServer, create_app
from dicom_node.people.sessions import digest_of
from tests.support.api_client import TOKEN, parts_over, seeded_database
from tests.support.campaign import amount
from tests.support.results.rows import key_of
from tests.support.results.seeded import CHEST_CT, GAP_CT

_TOOLS = Path(sys.executable).parent
#: Streams that end when the client goes, and bodies of DICOM files, which no description says how to write.
_NOT_TRIED = "/events$|^/dicom-web/"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    """A server that refuses a wrong token however often it is shown: what is tried here are wrong tokens, too."""
    database = seeded_database(tmp_path)
    app = create_app(parts_over(database, tmp_path))
    before: Access = app.state.access
    app.state.access = Access(digest_of(TOKEN), before.people, before.audit, failures_per_minute=10**6)
    server = ApiServer(app, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()
    database.close()


#: That a password is too common no description can say. A body that is too long is refused for that before anybody
#: looks for what else is wrong with it: 413, as every operation with a body describes (RFC 9110 15.5.14).
_EXCEPT = """
[checks]
negative_data_rejection.expected-statuses = [
    400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx",
]

[[operations]]
include-path-regex = "/users|/password$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 422, 429, "5xx"]

# One of two headers must be there, which OpenAPI cannot say, and must hold the version of the moment.
[[operations]]
include-path-regex = "/routes/"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412, 428, 429, "5xx"]

# In its phase `coverage` schemathesis 4.32.5 takes `0` for what the pattern of If-Match allows.
[[operations]]
include-path-regex = "^/api/v1/(routes|destinations)/.name.(/(suspend|resume|revert))?$"
include-method = ["POST", "PUT"]
phases.coverage.enabled = false
"""


#: For so long a campaign makes requests, new ones each time; a sample makes the same few.
_CAMPAIGN_S = 600
_HOW_MANY = ["--phases", "examples,fuzzing", "--max-examples", "2", "--seed", "1"]
_HOW_LONG = ["--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(_CAMPAIGN_S), "--continue-on-failure"]


@pytest.mark.campaign
@pytest.mark.timeout(amount(600, campaign=3600))
def test_no_request_made_from_the_description_breaks_it(server: ApiServer, tmp_path: Path) -> None:
    """Every check of schemathesis holds: statuses, types, headers and bodies are those described; what the description
    allows is taken, what it forbids is refused, and nothing is done without the token."""
    address = f"http://127.0.0.1:{server.port}/api/v1/openapi.json"
    assert httpx.get(address, timeout=120).status_code == 200  # written by now: schemathesis waits for ten seconds
    command = [
        str(_TOOLS / "schemathesis"), "run", address,
        "--header", f"Authorization: Bearer {TOKEN}", "--checks", "all", "--exclude-path-regex", _NOT_TRIED,
        "--warnings", "off", "--request-timeout", "60", *amount(_HOW_MANY, campaign=_HOW_LONG),
    ]  # fmt: skip
    (tmp_path / "schemathesis.toml").write_text(_EXCEPT, encoding="utf-8")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


# --- a generated client -------------------------------------------------------------------------------------------


@pytest.fixture
def generated(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a client of the description; return the name of its package."""
    description = tmp_path / "openapi.json"
    document = httpx.get(f"http://127.0.0.1:{server.port}/api/v1/openapi.json", timeout=60).json()
    description.write_text(json.dumps(document), encoding="utf-8")
    command = [
        str(_TOOLS / "openapi-python-client"), "generate", "--path", str(description), "--meta", "none",
        "--output-path", str(tmp_path / "client_of_the_node"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    yield "client_of_the_node"
    for name in [one for one in sys.modules if one.startswith("client_of_the_node")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_client_made_from_the_description_signs_in_lists_reads_findings_and_reruns(
    server: ApiServer, generated: str
) -> None:
    def part(name: str) -> Any:
        return importlib.import_module(f"{generated}.{name}")

    known, base_url = part("client").AuthenticatedClient, f"http://127.0.0.1:{server.port}"
    with known(base_url=base_url, token=TOKEN) as client:
        page = part("api.studies.list_studies").sync(client=client, limit=2)
        assert (len(page.studies), page.studies[0].state.value) == (2, "RECEIVING")

        results = part("api.results.get_results").sync(CHEST_CT, client=client)
        assert [type(one).__name__ for one in results] == ["AnalysedResult"]
        left = results[0].summary.findings[0]
        volume = left.measurements[0]
        assert (left.key, left.laterality.meaning) == ("left-lung", "Left")
        assert (volume.name.meaning, volume.value, volume.unit.value) == ("Volume", 2412.0, "ml")
        assert results[0].summary.model.name == "ct-lung-density"
        [declined] = part("api.results.get_results").sync(GAP_CT, client=client)
        assert (type(declined).__name__, declined.state.value) == ("DeclinedResult", "NOT_ANALYSABLE")

        why = part("models").RequestWords(indication="Cough", purpose=part("models").Purpose("focused"))
        queued = part("api.operator.rerun_study").sync(CHEST_CT, client=client, body=why)
        job = part("api.jobs.get_job").sync(queued.ids[0], client=client)
        assert (job.state.value, job.stage.value, job.study_instance_uid) == ("QUEUED", "queued", CHEST_CT)
    with known(base_url=base_url, token="wrong" * 8) as stranger:
        refused = part("api.results.get_result").sync_detailed(key_of("chest-ct"), client=stranger)
    assert (refused.status_code, refused.parsed.type_) == (401, "/api/v1/problems/not-signed-in")
