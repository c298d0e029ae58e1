"""What the tests of files that come in share: a way in over a fresh index, files and bodies made from bytes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from dicom_node.api.parts import ApiParts
from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.settings import Settings
from dicom_node.headers.file_meta import file_head
from dicom_node.headers.reader import FileHeaders
from dicom_node.index.database import Database
from dicom_node.index.tables import associations, instances
from dicom_node.ingest.intake import Intake, IntakeLimits
from dicom_node.ingest.session import IngestParts
from dicom_node.ingest.wrapping import PictureWrapper
from dicom_node.storage.spool import Spool
from tests.peers.process import wait_until
from tests.support.api_client import TOKEN, parts_over
from tests.support.studies.small_images import EXPLICIT_LITTLE, Image

Children = tuple[FileHeaders, PictureWrapper]
BOUNDARY = "aBoundary'(1)"
RELATED = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'


@dataclass(frozen=True)
class Place:
    """A node's index and spool without the node around them, and the way in for files."""

    parts: IngestParts
    folder: Path

    def rows(self) -> list[Mapping[str, Any]]:
        with self.parts.database.read() as connection:
            return [dict(row) for row in connection.execute(select(instances)).mappings()]

    def associations(self) -> list[Mapping[str, Any]]:
        with self.parts.database.read() as connection:
            return [dict(row) for row in connection.execute(select(associations)).mappings()]

    def stored(self) -> dict[str, bytes]:
        """The files that rows lead to, by SOP Instance UID."""
        return {row["sop_instance_uid"]: self.parts.spool.path(row["object_key"]).read_bytes() for row in self.rows()}

    def leftovers(self) -> list[Path]:
        """What was begun and not kept."""
        return list((self.parts.spool.folder / "incoming").iterdir())

    def with_limits(self, *, min_free_bytes: int = 0, max_object_bytes: int = 1 << 30) -> Place:
        limits = IntakeLimits(min_free_bytes=min_free_bytes, max_object_bytes=max_object_bytes)
        intake = Intake(self.parts.database, self.parts.spool, limits, "test:ingest")
        return replace(self, parts=replace(self.parts, intake=intake, max_object_bytes=max_object_bytes))

    def api_parts(self, **sections: Any) -> ApiParts:
        """What the API is given; `sections` are settings."""
        parts = parts_over(self.parts.database, self.folder)
        settings = Settings.model_validate({"node": {"data_dir": self.folder, "min_free_mb": 0}, **sections})
        return replace(parts, settings=settings, ingest=self.parts)


@contextmanager
def child_processes() -> Iterator[Children]:
    """Read headers and wrap pictures in processes that are started once for a module's tests."""
    children = FileHeaders(), PictureWrapper()
    yield children
    for child in children:
        child.close()


@contextmanager
def opened_place(folder: Path, children: Children) -> Iterator[Place]:
    """Open a fresh index and spool; closed at the end."""
    database = Database(f"sqlite:///{folder / 'node.sqlite'}")
    database.migrate()
    spool = Spool(folder / "spool")
    intake = Intake(database, spool, IntakeLimits(min_free_bytes=0, max_object_bytes=1 << 30), "test:ingest")
    yield Place(
        IngestParts(
            intake=intake, database=database, spool=spool, headers=children[0], pictures=children[1],
            called_ae_title="AINODE", max_object_bytes=1 << 30,
        ),
        folder,
    )  # fmt: skip
    intake.close()
    database.close()


@contextmanager
def served(parts: ApiParts) -> Iterator[httpx.Client]:
    """Serve the API on a port of its own; gives a client that shows the token."""
    server = ApiServer(create_app(parts), "127.0.0.1", 0)
    server.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"http://127.0.0.1:{server.port}"
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        yield client
    server.stop()


def as_file(image: Image, *, preamble: bytes = b"\0" * 128) -> bytes:
    """Return an image as a DICOM file."""
    return preamble + file_head(image.sop_class_uid, image.sop_instance_uid, EXPLICIT_LITTLE)[128:] + image.data_set


def multipart(files: Sequence[bytes], header: bytes = b"Content-Type: application/dicom") -> bytes:
    """Return a multipart body with these parts."""
    boundary = BOUNDARY.encode()
    parts = [b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, header, file) for file in files]
    return b"".join([*parts, b"--%b--\r\n" % boundary])


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    """Begin a request to store by hand: all is sent but its length and its body."""
    url = client.base_url
    with socket.create_connection((url.host, url.port or 80), 60) as connection:
        connection.sendall(
            f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: {RELATED}\r\n".encode()
        )
        yield connection


def break_off(client: httpx.Client, beginning: bytes, when: Callable[[], bool]) -> None:
    """Begin a request to store with a long body, send the beginning, and hang up at a moment."""
    with connected(client) as connection:
        connection.sendall(b"Content-Length: 100000000\r\n\r\n" + beginning)
        wait_until(when, 60, "the moment to hang up")
