"""What a node holds, read from its index and its spool, to be compared with what senders were told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from sqlalchemy import select

from dicom_node.index.tables import instances
from dicom_node.storage.spool import Spool
from tests.peers.node import Node
from tests.support.results.arrivals import opened_database
from tests.support.studies.small_images import Image

_PREAMBLE_BYTES, _GROUP_LENGTH_BYTES = 132, 12


@dataclass(frozen=True)
class Kept:
    """One row of the index with the data set of its file; `is_used` until another version takes its place."""

    sop_instance_uid: str
    study_instance_uid: str
    is_used: bool
    data_set: bytes


def kept_by(node: Node, url: str = "", data_dir: Path | None = None) -> list[Kept]:
    """Return all that the index lists, oldest first, after everything acknowledged has settled.

    `url` is its database if that is not SQLite in its own folder; `data_dir` its folder as this process sees it.
    """
    node.wait_until_settled()
    folder = data_dir or node.data_dir
    spool = Spool(folder / "spool")
    with opened_database(url or f"sqlite:///{folder / 'node.sqlite'}") as database, database.read() as connection:
        rows = connection.execute(select(instances).order_by(instances.c.received_at)).all()
    return [
        Kept(
            row.sop_instance_uid,
            row.study_instance_uid,
            row.superseded_at is None,
            data_set_of(spool.path(row.object_key)),
        )
        for row in rows
    ]


def data_set_of(path: Path) -> bytes:
    """Return the encoded data set of a file, byte for byte."""
    meta = pydicom.filereader.read_file_meta_info(path)
    return path.read_bytes()[_PREAMBLE_BYTES + _GROUP_LENGTH_BYTES + int(meta.FileMetaInformationGroupLength) :]


def assert_kept(node: Node, acknowledged: Iterable[Image], *, url: str = "") -> None:
    """Every acknowledged image is in the index and its bytes are those that were sent."""
    held = {(kept.sop_instance_uid, kept.data_set) for kept in kept_by(node, url)}
    uids = {uid for uid, _ in held}
    sent = list(acknowledged)
    lost = [image.sop_instance_uid for image in sent if image.sop_instance_uid not in uids]
    assert lost == [], f"{len(lost)} of {len(sent)} acknowledged images are lost"
    changed = [i.sop_instance_uid for i in sent if (i.sop_instance_uid, i.data_set) not in held]
    assert changed == [], f"{len(changed)} of {len(sent)} acknowledged images were changed"
