"""Reviewed results as cases to train and test on: images, masks and reports without their patient, and the truth.

The truth is what a named person decided, finding by finding, beside what the model had said. Only results that somebody
reviewed become cases; what people typed, who they are and when they decided does not leave.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dicom_node import PRODUCT_NAME, __version__
from dicom_node.analysis.stored_findings import analysed_uids_in, model_named
from dicom_node.core.assessment.reader_agreement import verdict_on
from dicom_node.core.assessment.review import Review, ReviewedFinding
from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import NodeError, SettingsError
from dicom_node.core.identifying import ProfileOption
from dicom_node.core.principal import Principal
from dicom_node.deidentification.profile import DeidentificationProfile
from dicom_node.index.database import Database
from dicom_node.index.people.audit_records import patients_of
from dicom_node.index.views.agreement import AgreementFilter, ReaderCase, reader_cases
from dicom_node.index.views.study import dicom_objects, received_objects
from dicom_node.index.views.types import KeptDicomObject
from dicom_node.operate.exports.deidentifying import Deidentifying, deidentifying
from dicom_node.operate.exports.export import make_empty
from dicom_node.operate.exports.labels import finding_label
from dicom_node.operate.exports.study_zip import WithoutPatient
from dicom_node.storage.digest import file_sha256, is_damaged
from dicom_node.storage.spool import Spool

#: The basic profile would leave nothing of a report; with this option its codes and numbers stay.
TRAINING = DeidentificationProfile("training", frozenset({ProfileOption.CLEAN_STRUCTURED_CONTENT}))
MANIFEST = "manifest.json"
_DAMAGED = "its file is gone or damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCase:
    """One case as it stands in the manifest; `left_out` counts why objects are not in it."""

    truth: str
    study: str
    model: str
    model_version: str
    decision: str
    findings: int
    files: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CaseExporter:
    """Writes cases for somebody, who stands in the audit trail with every study before a byte of it is written."""

    database: Database
    spool: Spool
    audit: Audit
    actor: Principal
    without: WithoutPatient

    def export(self, folder: Path, wanted: AgreementFilter) -> Iterator[WrittenCase]:
        """Yield each case as it is written, and write the manifest at the end.

        Raises `SettingsError` for a folder that is not empty or cannot be written, and `AuditUnavailable`.
        """
        make_empty(folder)
        manifest = _Manifest(folder)
        with deidentifying(self.without.profile, self.without.key, folder) as process:
            for number, case in enumerate(reader_cases(self.database, wanted, only_reviewed=True), 1):
                if case.review is not None:
                    written = self._case(_Target(folder, number, process, manifest), case, case.review)
                    manifest.cases.append(written)
                    yield written
        manifest.write(self.without)

    def _case(self, target: _Target, case: ReaderCase, review: Review) -> WrittenCase:
        result = case.origin.result
        study = self.without.pseudonym(result.study_instance_uid)
        with self.database.read() as connection:
            of_results = dicom_objects(connection, [result.job_key, *([result.successor] if result.successor else [])])
            images = received_objects(connection, result.study_instance_uid)
        event = self._event(result.study_instance_uid, len(images) + len(of_results))
        self.audit.record(event)
        try:
            left_out = Counter(self._written(target, [*images, *of_results]))
            truth = f"{study}/truth-{target.number}.json"
            target.write(truth, _json(self._truth(case, review)))
        except NodeError as error:
            detail = {**event.detail, "failed": type(error).__name__}
            self.audit.note(replace(event, outcome=AuditOutcome.SERIOUS_FAILURE, detail=detail))
            raise
        return WrittenCase(
            truth=truth, study=study, model=result.model, model_version=model_named(result.summary).version,
            decision=review.state, findings=len(review.findings),
            files=sum(name.startswith(f"{study}/") for name in target.manifest.files), left_out=dict(left_out),
        )  # fmt: skip

    def _event(self, study: str, count: int) -> AuditedEvent:
        with self.database.read() as connection:
            number = patients_of(connection, [study]).get(study)
        detail = {"objects": count, "profile": self.without.profile.name, "what": "reviewed case"}
        event = AuditedEvent(act=AuditedAct.EXPORT, actor=self.actor, study_instance_uid=study, detail=detail)
        if number is None:
            return event
        return replace(event, patient_id=number.value, issuer_of_patient_id=number.authority)

    def _written(self, target: _Target, objects: Iterable[KeptDicomObject]) -> Iterator[str]:
        """Write objects, each once, and yield why one was left out."""
        for one in objects:
            if one.sop_instance_uid in target.manifest.seen:
                continue
            target.manifest.seen.add(one.sop_instance_uid)
            path = self.spool.path(one.object_key)
            why_not = _DAMAGED if is_damaged(path, one.sha256) else target.take(path)
            if why_not:
                yield why_not

    def _truth(self, case: ReaderCase, review: Review) -> Mapping[str, object]:
        result, model = case.origin.result, model_named(case.origin.result.summary)
        sources = analysed_uids_in(result.summary)
        return {
            "study_instance_uid": self.without.pseudonym(result.study_instance_uid),
            "source_sop_instance_uids": [self.without.pseudonym(str(uid)) for uid in sources],
            "model": {"name": model.name, "version": model.version, "digest": model.digest},
            "decision": review.state,
            "reasons": review.reasons,
            "confirmed_by_second_reader": review.second_reader is not None,
            "findings": [self._finding(one) for one in review.findings],
        }

    def _finding(self, one: ReviewedFinding) -> Mapping[str, object]:
        said, told = one.said_by_model, self.without.pseudonym
        return {
            "verdict": verdict_on(one),
            "removed": one.removed,
            "truth": None if one.removed else finding_label(one.finding, told, is_typed=one.is_added),
            "said_by_model": said and finding_label(said, told, is_typed=False),
        }


@dataclass(slots=True)
class _Manifest:
    """What lies in the folder by now: files with their sha256, cases, and which objects need not be looked at again."""

    folder: Path
    files: dict[str, str] = field(default_factory=dict)
    cases: list[WrittenCase] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def write(self, without: WithoutPatient) -> None:
        """Write it as the last file."""
        methods = [f"{code.value} {code.meaning}" for code in without.profile.methods]
        told = {
            "made_by": f"{PRODUCT_NAME} {__version__}",
            "deidentified": {"profile": without.profile.name, "methods": methods},
            "cases": [_plain(one) for one in self.cases],
            "files": [{"name": name, "sha256": sha256} for name, sha256 in sorted(self.files.items())],
        }
        _keep(self.folder / MANIFEST, _json(told))


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the files of one case go."""

    folder: Path
    number: int
    process: Deidentifying
    manifest: _Manifest

    def take(self, path: Path) -> str:
        """Write an object without its patient; return why it was left out, "" where it was not."""
        taken = self.process.take(path)
        if taken.why_not:
            return taken.why_not
        name = f"{taken.study_instance_uid}/{taken.series_instance_uid}/{taken.sop_instance_uid}.dcm"
        sha256 = file_sha256(self.process.file)
        try:
            self._place(name)
            self.process.file.chmod(0o600)
            self.process.file.rename(self.folder / name)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        self.manifest.files[name] = sha256
        return ""

    def write(self, name: str, content: bytes) -> None:
        """Write another file."""
        try:
            self._place(name)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        _keep(self.folder / name, content)
        self.manifest.files[name] = file_sha256(self.folder / name)

    def _place(self, name: str) -> None:
        for parent in reversed(Path(name).parents[:-1]):  # `parents` would make them as anybody may read them
            (self.folder / parent).mkdir(exist_ok=True, mode=0o700)


def _keep(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".part")
    try:
        draft.touch(mode=0o600)
        draft.write_bytes(content)
        draft.rename(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _cannot_write(path.parent, error) from error


def _cannot_write(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{folder} cannot be written: {error.strerror}. Free space there.")


def _plain(one: WrittenCase) -> Mapping[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}


def _json(told: object) -> bytes:
    return json.dumps(told, ensure_ascii=False, indent=1).encode()
