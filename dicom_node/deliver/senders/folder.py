"""Deliver objects as files into a folder: whole or not at all, and the same object only once. Beside each DICOM object
a sidecar says what it is and whether it holds."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.core.entities import AboutResult, Artifact, MediaType, ResultState
from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused, DestinationAway
from dicom_node.core.uids import is_valid_uid
from dicom_node.deliver.outgoing import Outgoing, Sent, SentObject
from dicom_node.deliver.senders import sidecar
from dicom_node.storage.durable import sync_folder

_SUFFIXES = {"application/dicom": ".dcm", "application/fhir+json": ".json", "application/json": ".json"}
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FolderSender:
    """Writes ``<kind>-<uid>.dcm`` or ``.json``; readers never see a half-written file under that name.

    The sidecar follows the object, so that whoever waits for it finds the object whole. `include` names what of the
    patient it may tell (see `config.outgoing`).
    """

    path: Path
    include: Collection[str] = ()

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Write each item; a disk that cannot be written defers the item, damaged bytes are refused.

        Where the folder itself is not there and cannot be made, the destination is away.
        """
        for position, item in enumerate(items):
            try:
                yield Sent(item.artifact.uid, None, self._write(item))
            except DestinationAway as error:
                yield from (Sent(left.artifact.uid, error, "") for left in items[position:])
                return
            except (DeliveryDeferred, DeliveryRefused) as error:
                yield Sent(item.artifact.uid, error, "")

    def _write(self, item: Outgoing) -> str:
        target = self.path / _name(item.artifact)
        self._require_folder()
        try:
            is_there = _is_there(target, item.artifact.sha256)
            if not is_there:
                self._write_whole(item, target)
            if item.about is not None:
                self._tell(item, item.about, target)
        except OSError as error:
            raise DeliveryDeferred(
                f"Folder {self.path} cannot be written: {error.strerror}. Tried again later; check space and rights."
            ) from error
        return f"already there as {target.name}" if is_there else f"written as {target.name}"

    def _require_folder(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DestinationAway(
                f"Folder {self.path} is not there and cannot be made: {error.strerror}. Looked for again; mount "
                "its disk."
            ) from error

    def _tell(self, item: Outgoing, about: AboutResult, target: Path) -> None:
        """Say what the object is, and of what it replaces or takes back that it does not hold any more."""
        if item.artifact.media_type == MediaType.DICOM:
            _write_text(sidecar.path_beside(target), sidecar.text(item, about, target.name, self.include))
        standing = ResultState.WITHDRAWN if item.is_withdrawal else ResultState.SUPERSEDED
        for name in about.taken_back if item.is_withdrawal else about.replaces:
            beside = sidecar.path_beside(self.path / sidecar.file_name(name))
            changed = sidecar.changed(beside, standing, about.result)
            if changed is not None:
                _write_text(beside, changed)

    def _write_whole(self, item: Outgoing, target: Path) -> None:
        """Copy under a hidden name, make it durable, then give it its name."""
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            digest = _copy(item.path, part)
            if digest != item.artifact.sha256:
                raise DeliveryRefused(
                    f"The stored bytes of {item.artifact.uid} are not those that were produced (sha256 differs); "
                    "check the object store, then run the job again."
                )
            part.replace(target)
            sync_folder(target.parent)
        finally:
            part.unlink(missing_ok=True)


def objects_in_folder(folder: Path, objects: Sequence[SentObject]) -> Collection[str]:
    """Return the UIDs of those objects whose files are there with the bytes that were made.

    Raises `DeliveryDeferred` where the folder itself is not there: a disk that is not mounted has lost nothing.
    """
    if not folder.is_dir():
        raise DeliveryDeferred(f"Folder {folder} is not there. Looked for again later; mount its disk.")
    try:
        return {one.uid for one in objects if _is_there(folder / _name(one), one.sha256)}
    except OSError as error:
        raise DeliveryDeferred(f"Folder {folder} cannot be read: {error.strerror}. Looked at again later.") from error


def _is_there(path: Path, sha256: str) -> bool:
    return path.exists() and _sha256(path) == sha256


def _name(made: Artifact | SentObject) -> str:
    if not is_valid_uid(made.uid):
        raise DeliveryRefused("An object without a valid UID has no safe file name; it is not written.")
    return f"{made.kind}-{made.uid}{_SUFFIXES.get(made.media_type, '.bin')}"


def _write_text(target: Path, text: str) -> None:
    """Write as a whole; what says so already stays as it is."""
    if target.exists() and target.read_bytes() == text.encode():
        return
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("x", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        part.replace(target)
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> str:
    """Copy durably and return the sha256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as stored, target.open("xb") as written:
        while block := stored.read(_BLOCK_BYTES):
            digest.update(block)
            written.write(block)
        written.flush()
        os.fsync(written.fileno())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()
