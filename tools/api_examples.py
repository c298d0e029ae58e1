"""What the operations of the API answer on a node with a few studies, for the examples in its description.

Run ``python -m tools.api_examples`` after a change of what an operation answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dicom_node.core.alarms.rules import DISK_FILLING
from dicom_node.core.alarms.standing import Fault, first_seen
from dicom_node.core.entities import PatientNumber
from dicom_node.index.alarms.standing import keep as keep_alarm
from dicom_node.index.received.patients import note_whose
from tests.support.api_client import Client, client_of, parts_over, seeded_database, work_out
from tests.support.needs import REPOSITORY
from tests.support.results.rows import NOW, Rows, key_of
from tests.support.results.seeded import CHEST_CT, CHEST_XR, XR_MODEL

KEPT = REPOSITORY / "dicom_node" / "api" / "examples.json"
#: What is another every time, and so says nothing.
_FIXED = {
    "disk_free_bytes": 250_000_000_000, "free_bytes": 250_000_000_000, "total_bytes": 500_000_000_000,
    "oldest_pending_s": 42.0, "begins_at": "2026-03-14T09:00:00Z", "since": "2026-03-14T09:00:00Z",
    "acknowledged_at": "2026-03-14T09:40:00Z",
}  # fmt: skip
#: So many entries of a list are shown.
_MOST = 2
_STUDY = {"{uid}": CHEST_CT, "{job_key}": key_of("chest-ct"), "{name}": "not-signed-in", "{id}": "1"}
#: By operation, what stands for the parameters, and what is asked; most need nothing.
_ASKED: dict[str, dict[str, Any]] = {
    "get_history": {"path": "/api/v1/patients/PAT-4711/history"},
    "withdraw_study": {"path": f"/api/v1/studies/{CHEST_XR}/withdraw", "json": {"reason": "Wrong protocol."}},
    "hold": {"path": f"/api/v1/studies/{CHEST_XR}/hold", "json": {"reason": "A teaching case."}},
    "release": {"path": f"/api/v1/studies/{CHEST_XR}/release"},
    "discard_delivery": {"path": "/api/v1/deliveries/4/discard", "json": {"reason": "The EHR has it on paper."}},
    "get_model": {"path": "/api/v1/models/ct-lung-density"},
    "try_routes": {"json": {"studies": 50}},
    "retry_delivery": {"path": "/api/v1/deliveries/4/retry"},
    "acknowledge_alarm": {"json": {"reason": "A new disk comes on Monday."}},
}


_FILLING = Fault(subject="data", text="Full on 2026-03-24, in 10 days: it grows by 5,000 MB a day.")


def main() -> None:
    """Write the examples anew."""
    KEPT.write_text(json.dumps(dict(examples()), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def examples() -> Iterator[tuple[str, Any]]:
    """Yield name and answer of each operation that answers with JSON here; what only reads is asked first."""
    with TemporaryDirectory() as name:
        database = seeded_database(Path(name))
        with database.write() as connection:
            note_whose(connection, dict.fromkeys((CHEST_CT, CHEST_XR), PatientNumber("PAT-4711")))
            rows = Rows(connection, Path(name))
            if (alarm := first_seen(DISK_FILLING, _FILLING, NOW).alarm) is not None:
                keep_alarm(connection, alarm)
            rows.accepted(CHEST_XR, "chest-radiograph", XR_MODEL, "Weiss^Anna", 120)
        work_out(database, Path(name))
        client = client_of(parts_over(database, Path(name)))
        for verb in ("get", "post"):
            for path, item in client.app.openapi()["paths"].items():
                if verb in item:
                    yield from _answered(client, verb, path, item[verb]["operationId"])
        database.close()


def _answered(client: Client, verb: str, path: str, operation: str) -> Iterator[tuple[str, Any]]:
    asked = dict(_ASKED.get(operation, {}))
    address = asked.pop("path", path)
    for word, meaning in _STUDY.items():
        address = address.replace(word, meaning)
    if address.endswith("/events"):  # a stream
        return
    answer = client.request(verb.upper(), address, **asked)
    if answer.is_success and answer.headers.get("content-type") == "application/json":
        yield operation, _short(answer.json())


def _short(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _FIXED.get(name, _short(one)) for name, one in told.items()}
    return [_short(one) for one in told[:_MOST]] if isinstance(told, list) else told


if __name__ == "__main__":
    main()
