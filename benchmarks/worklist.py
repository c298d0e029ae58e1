"""How long do the worklist, a search and the administrator's view take with a large index?

    python -m benchmarks.worklist [--studies 10000] [--instances 1000000] [--accepted 7] [--quick] [--json FILE]

Fills a SQLite index, lets the sweep of the role `index` work the studies out, and asks the API as the page does: the
whole answer, in this process, without a network. Patients are read from stored objects at the first page and remembered
after it. Beside the time, which a busy machine draws out, stands that of the processor. Where there is a Chromium, it
also goes from the worklist to accepted results by keys alone, and tells how long each answer took until it was painted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
from fastapi import FastAPI
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks import worklist_in_browser as in_browser
from benchmarks.command_line import keep, parser_of
from benchmarks.filled_index import fill
from dicom_node.api.parts import ApiParts
from dicom_node.api.server import create_app
from dicom_node.api.shown_patients import ShownPatients
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.search_key import SearchKeys
from dicom_node.headers.demographics import DemographicsReader
from dicom_node.index.database import Database
from dicom_node.jobs.worklist import WorklistSweep
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.people.audit.trail import LoggedAudit
from dicom_node.people.sessions import digest_of

_TOKEN = "a-token-of-the-benchmark"  # noqa: S105 - of a server that nobody else can reach
_KEYS = SearchKeys(b"secret")
_ROUNDS = 21
_FIRST_PAGE = 50  # studies, as the page asks for them


def _portrait(path: Path) -> None:
    header = Dataset()
    header.PatientName, header.PatientID, header.PatientBirthDate = "Sommer^Anna", "PAT-1", "19580412"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID, header.file_meta.MediaStorageSOPInstanceUID = "1.2", "1.2"
    header.save_as(path, enforce_file_format=True)


def _asked(studies_filled: int) -> dict[str, str]:
    middle = studies_filled // 2
    return {
        "first page": "worklist",
        "by accession": f"worklist?accession_number=ACC-{middle}",
        "by accession in the search box": f"worklist?query=ACC-{middle}",
        "by patient": f"worklist?query=PAT-{middle // 3}",
        "by UID": f"worklist?query=1.2.3.{middle}",
        "by words": "worklist?query=thorax 7",
        "by words that nobody wrote": "worklist?query=abdomen",
        "modality of one study in a hundred": "worklist?modality=MR",
        "needs review": "worklist?review=NEEDED",
        "one study": f"worklist/1.2.3.{middle}",
        "what waits": "waiting",
    }


@contextmanager
def _node(folder: Path, database: Database) -> Iterator[ApiParts]:
    reader, settings = DemographicsReader(), Settings(node=NodeSettings(data_dir=folder, min_free_mb=0))
    try:
        yield ApiParts(
            database=database, settings=settings, open_object=lambda key: folder / key, models=dict, cards={},
            routes=RoutesInForce(settings, {}, database), wake=lambda: None,
            token_digest=digest_of(_TOKEN), audit=LoggedAudit(), receiver_ready=lambda: True, version="bench",
            search_keys=_KEYS, patients=ShownPatients(lambda _: folder / "portrait", reader.read),
        )  # fmt: skip
    finally:
        reader.close()


async def _seconds(app: FastAPI, address: str, rounds: int) -> list[tuple[float, float]]:
    """Ask again and again; return how long each answer took, and of the processor."""
    transport, taken = httpx.ASGITransport(app), []
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        for _ in range(rounds):
            began, worked = time.perf_counter(), time.process_time()
            answer = await client.get(f"/api/v1/{address}")
            taken.append((time.perf_counter() - began, time.process_time() - worked))
            answer.raise_for_status()
    return taken


def measure(studies_filled: int, per_study: int, accepted: int) -> dict[str, float]:
    """Return every figure by name, in milliseconds but for the sweep and the keystrokes; `accepted` by a person."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _portrait(folder / "portrait")
        database = Database(f"sqlite:///{folder / 'node.sqlite'}")
        database.migrate()
        fill(database, studies_filled, per_study)
        readable = in_browser.add_readable(database, folder, accepted + 1) if in_browser.is_there() else ()
        sweep = WorklistSweep(database, _KEYS, "", lambda key: folder / key, lambda paths: [None for _ in paths])
        began = time.perf_counter()
        for _ in range(-(-(studies_filled + len(readable)) // 1000)):
            sweep.run()
        found["working out all studies, s"] = time.perf_counter() - began
        with _node(folder, database) as parts:
            app = create_app(parts)
            for what, address in _asked(studies_filled).items():
                taken = anyio.run(_seconds, app, address, _ROUNDS)
                if what == "first page":
                    found["first page, patients read, ms"] = taken[0][0] * 1000
                found[f"{what}, ms"] = statistics.median(one for one, _ in taken[1:]) * 1000
                found[f"{what}, ms of the processor"] = statistics.median(one for _, one in taken[1:]) * 1000
            if readable:
                found |= in_browser.measure(parts, folder, readable, min(studies_filled, _FIRST_PAGE))
        database.close()
    return found


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"studies": 30, "instances": 60, "accepted": 1})
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--accepted", type=int, default=7, help="so many results in Chromium")
    options = parser.parse_args()
    found = measure(options.studies, options.instances // options.studies, options.accepted)
    for name, value in found.items():
        print(f"{name:<56} {value:8.1f}")
    keep(found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
