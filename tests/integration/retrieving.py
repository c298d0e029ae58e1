"""What the tests of retrieval share: a way into a fresh index, a retrieval run in this thread, bytes compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from dicom_node.index.database import Database
from dicom_node.index.tables import associations, instances
from dicom_node.ingest.intake import Intake, IntakeLimits
from dicom_node.retrieve.kinds import make_sources
from dicom_node.retrieve.retrieval import Retrieval, Watch, new_retrieval, perform
from dicom_node.retrieve.sink import SinkParts, WantedStudy, opened_file
from dicom_node.retrieve.source import Source
from dicom_node.roles.settings import SiteSettings
from dicom_node.storage.spool import Spool
from tests.peers.orthanc import Orthanc

CALLED = "AINODE"


@dataclass(frozen=True)
class Place:
    """A node's index and spool without the node around them."""

    database: Database
    spool: Spool
    min_free_bytes: int = 0
    max_object_bytes: int = 1 << 30

    @property
    def parts(self) -> SinkParts:
        limits = IntakeLimits(min_free_bytes=self.min_free_bytes, max_object_bytes=self.max_object_bytes)
        intake = Intake(self.database, self.spool, limits, "test:retrieve")
        return SinkParts(intake, self.database, self.max_object_bytes)

    def fetch(self, source: Source, study: str, *series: str, watch: Watch | None = None) -> Retrieval:
        asked = new_retrieval("1", source.name, WantedStudy(study, series))
        return perform(asked, source, self.parts, CALLED, watch or Watch())

    def rows(self) -> list[Mapping[str, Any]]:
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(instances)).mappings()]

    def associations(self) -> list[Mapping[str, Any]]:
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(associations)).mappings()]

    def data_sets(self) -> dict[str, tuple[str, bytes]]:
        """What is stored: SOP Instance UID to transfer syntax and encoded data set."""
        return named(self.spool.path(row["object_key"]).read_bytes() for row in self.rows())


def opened_place(folder: Path, database: Database, **limits: int) -> Place:
    return Place(database, Spool(folder / "spool"), **limits)


def source(settings: Mapping[str, Any], timeout_s: float = 60.0) -> Source:
    """Make one source as the configuration would; by default it has the patience that a busy machine needs."""
    one = {"name": "pacs", "timeout_s": timeout_s, **settings}
    made = make_sources(SiteSettings.model_validate({"node": {"ae_title": CALLED}, "source": [one]}))
    return made["pacs"]


def dimse(peer: Any, **more: Any) -> dict[str, Any]:
    """Settings of a PACS that speaks DIMSE: `tests.peers` Orthanc or Receiver."""
    port = peer.dicom_port if isinstance(peer, Orthanc) else peer.port
    return {"kind": "dimse", "ae_title": peer.aet, "host": "127.0.0.1", "port": port, **more}


WAYS: Mapping[str, Callable[[Orthanc], dict[str, Any]]] = {
    "C-GET": dimse,
    "DICOMweb": lambda pacs: {"kind": "dicomweb", "url": pacs.dicomweb_url},
    "REST": lambda pacs: {"kind": "orthanc", "url": pacs.http_url},
}


def named(files: Any) -> dict[str, tuple[str, bytes]]:
    """Take DICOM files apart: SOP Instance UID to transfer syntax and encoded data set."""
    found = {}
    for file in files:
        names, pieces = opened_file([file])
        found[names.sop_instance_uid] = (names.transfer_syntax_uid, b"".join(pieces))
    return found


def held_by(pacs: Orthanc, ids: Sequence[str] = ()) -> dict[str, tuple[str, bytes]]:
    """What Orthanc stores, as `named`."""
    return named(pacs.http.get(f"/instances/{id_}/file").content for id_ in ids or pacs.instances())
