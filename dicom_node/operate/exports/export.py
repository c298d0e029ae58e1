"""Studies into a folder, as they are kept or de-identified: a file for each object, written down before the first."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from dicom_node.config.outgoing import DeidentificationSettings
from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.entities import Code
from dicom_node.core.errors import NodeError, NotFound, SettingsError
from dicom_node.core.identifying import ProfileOption
from dicom_node.core.principal import Principal
from dicom_node.deidentification.dataset import deidentify
from dicom_node.deidentification.pixels import why_not_exported
from dicom_node.deidentification.profile import BASIC, DeidentificationProfile, SafePrivate
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.index.database import Database
from dicom_node.index.received.patients import number_of_study
from dicom_node.index.views.study import made_objects, received_objects
from dicom_node.index.views.types import KeptDicomObject
from dicom_node.inference.cards.card import ModelCard
from dicom_node.storage.digest import is_damaged
from dicom_node.storage.spool import Spool

_DAMAGED = "its file is gone or damaged"
_UNREADABLE = "it cannot be read"


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """One object: the file it went to, or why it did not; neither tells of a patient where none was to be told of."""

    file: Path | None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is exported: received objects, and with `with_results` those that the node has made.

    Without `profile` as they are kept; `key` is the secret of the pseudonyms.
    """

    folder: Path
    profile: DeidentificationProfile | None = None
    key: bytes = b""
    with_results: bool = False


@dataclass(frozen=True, slots=True)
class Exporter:
    """Exports for somebody, who stands in the audit trail with every study before a byte of it is written."""

    database: Database
    spool: Spool
    audit: Audit
    actor: Principal

    def export(self, studies: Sequence[str], wanted: Export) -> Iterator[ExportedObject]:
        """Yield each object as it is written.

        Raises `NotFound`, `SettingsError` for a folder that is not empty or cannot be written, and `AuditUnavailable`.
        """
        kept = {uid: self._kept(uid, wanted) for uid in studies}
        make_empty(wanted.folder)
        for uid, objects in kept.items():
            event = self._event(uid, wanted, len(objects))
            self.audit.record(event)
            try:
                for one in objects:
                    yield self._exported(one, uid, wanted)
            except NodeError as error:
                detail = {**event.detail, "failed": type(error).__name__}
                self.audit.note(replace(event, outcome=AuditOutcome.SERIOUS_FAILURE, detail=detail))
                raise

    def _kept(self, uid: str, wanted: Export) -> list[KeptDicomObject]:
        with self.database.read() as connection:
            received = received_objects(connection, uid)
            return [*received, *(made_objects(connection, uid) if wanted.with_results else [])]

    def _event(self, uid: str, wanted: Export, count: int) -> AuditedEvent:
        with self.database.read() as connection:
            number = number_of_study(connection, uid, "")
        detail = {"objects": count, "profile": wanted.profile.name if wanted.profile else "as kept"}
        event = AuditedEvent(act=AuditedAct.EXPORT, actor=self.actor, study_instance_uid=uid, detail=detail)
        if number is None:
            return event
        return replace(event, patient_id=number.value, issuer_of_patient_id=number.authority)

    def _exported(self, kept: KeptDicomObject, study: str, wanted: Export) -> ExportedObject:
        path = self.spool.path(kept.object_key)
        if is_damaged(path, kept.sha256):
            return ExportedObject(None, _DAMAGED)
        if wanted.profile is None:
            target = _file(wanted.folder, study, kept.series_instance_uid, kept.sop_instance_uid)
            return _written(target, path.read_bytes)
        try:
            return self._without_patient(path, wanted.folder, wanted.profile, wanted.key)
        except READ_ERRORS:
            return ExportedObject(None, _UNREADABLE)

    def _without_patient(
        self, path: Path, folder: Path, profile: DeidentificationProfile, key: bytes
    ) -> ExportedObject:
        dataset = dcmread(path)
        if why_not := why_not_exported(dataset, profile):
            return ExportedObject(None, why_not)
        deidentify(dataset, profile, key)
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        target = _file(folder, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
        return _written(target, buffer.getvalue)


def _file(folder: Path, study: str, series: str, instance: str) -> Path:
    return folder / study / series / f"{instance}.dcm"


def make_empty(folder: Path) -> None:
    """Make the folder of an export; in one that holds something, whose studies lie there would not be known."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror}. Name another folder.") from error
    if not is_empty:
        raise SettingsError(
            f"{folder} is not empty. Name a new folder, so that nothing else lies among what is exported."
        )


def _written(target: Path, content: Callable[[], bytes]) -> ExportedObject:
    """Write a file under its name only when it is whole. Raises `SettingsError` when the disk does not take it."""
    draft = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        for folder in (target.parent.parent, target.parent):  # `parents` would make them as anybody may read them
            folder.mkdir(exist_ok=True, mode=0o700)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - its mode
            file.write(content())
        draft.rename(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingsError(f"{target.parent} cannot be written: {error.strerror}. Free space there.") from error
    return ExportedObject(target)


def profile_named(
    name: str, configured: Sequence[DeidentificationSettings], cards: Iterable[ModelCard]
) -> DeidentificationProfile:
    """Return a profile by its name, which knows the codes of the models; ``basic`` is there. Raises `NotFound`."""
    profiles = {BASIC.name: BASIC} | {one.name: _profile(one) for one in configured}
    if name not in profiles:
        raise NotFound(f"There is no de-identification profile {name!r}; there are: {', '.join(profiles)}.")
    return with_codes_of(cards, profiles[name])


def with_codes_of(cards: Iterable[ModelCard], profile: DeidentificationProfile) -> DeidentificationProfile:
    """Return a profile by which the codes that models report stay in what leaves."""
    return replace(profile, own_codes=frozenset(code for card in cards for code in _codes_of(card)))


def _codes_of(card: ModelCard) -> Iterator[Code]:
    said = (
        *((one.code, one.site, one.unit) for one in card.findings),
        *((one.category, one.type, one.region, one.side) for one in card.segments),
        *((one.name, one.derivation) for one in card.measurements),
    )
    return (code for codes in said for code in codes if code is not None)


def _profile(settings: DeidentificationSettings) -> DeidentificationProfile:
    safe = frozenset(_safe_private(one) for one in settings.safe_private)
    options = frozenset(map(ProfileOption, settings.options)) | ({ProfileOption.SAFE_PRIVATE} if safe else set())
    return DeidentificationProfile(settings.name, options, safe, keep_burned_in=settings.burned_in == "keep")


def _safe_private(text: str) -> SafePrivate:
    creator, group, element = text.split("/")
    return SafePrivate(creator, int(group, 16), int(element, 16))
