"""What runs inside the worker process: the composition of model, writers and FHIR builders around `pipeline`.

The host hands over a `Task` and gets a `Performed` back; finished objects lie as files in the task's folder. Only
this process decodes pixels and loads models, so a hostile image or a broken model never touches what receives.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pydicom
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, Declined, NotAnalysed, analysed_images, state_of
from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.analysis.written import WrittenObject, WrittenResult, summarise
from dicom_node.core.calls.requests import on_behalf_of
from dicom_node.core.entities import ArtifactKind, JobStage, ModelIdentity
from dicom_node.core.errors import NodeError, NotAnalysable, SourceDamaged
from dicom_node.core.outputs.artifact_kinds import ARTIFACT_KINDS
from dicom_node.core.progress import Listener, listener, tell, told_to
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.builders.bundle import build_bundle, to_json_bytes
from dicom_node.fhir.builders.last_notice import last_bundle
from dicom_node.fhir.hl7.message import build_message, last_message
from dicom_node.headers.patient import restate
from dicom_node.headers.sound import READ_ERRORS, drop_unreadable
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.model_run import read_dataset
from dicom_node.inference.runner import run_model
from dicom_node.inference.workers.together import run_together
from dicom_node.jobs.tasks import Performed, ProducedFile, Task
from dicom_node.logs import quiet_third_parties, unprinted
from dicom_node.pipeline import AnalysisOutput, Parts, analyse, write_output
from dicom_node.sandbox.child import Answer, OutOfMemory, answer_to
from dicom_node.sr_writer import to_part10, write_result
from dicom_node.sr_writer.identity import ONE_PATIENT, check_one_patient
from dicom_node.sr_writer.last_notice import last_reports
from dicom_node.sr_writer.writing import BUILD_ERRORS
from dicom_node.storage.folder import room_in

#: Whose images these are, and the letters that say so.
_IDENTITY = ("SpecificCharacterSet", *ONE_PATIENT)
_COST_THE_NOTICE: tuple[type[Exception], ...] = (*BUILD_ERRORS, NodeError)
_Answer = TypeVar("_Answer", Analysis | NotAnalysed, NotAnalysed)
_log = logging.getLogger(__name__)


def work(request: Task | tuple[Task, ...]) -> object:
    """Perform one task or, of several that share network calls, tell for each what came of it.

    Raises `InferenceError`, and `MemoryError` when any of several ran out of memory: the process must end then.
    """
    quiet_third_parties()
    first = request if isinstance(request, Task) else request[0]
    requests = request.requests if isinstance(request, Task) else ()  # several at once have each their own
    with on_behalf_of(requests), unprinted(first.request.model_dir.name):
        return _answer(request)


def _answer(request: Task | tuple[Task, ...]) -> object:
    if isinstance(request, Task):
        if not request.only_identity:
            return perform(request)
        check_whose(request)
        return None
    hears = listener()
    answers = run_together([_one_of_several(task, place, hears) for place, task in enumerate(request)])
    if any(isinstance(answer, OutOfMemory) for answer in answers):
        raise MemoryError
    return answers


def _one_of_several(task: Task, place: int, hears: Listener) -> Callable[[], Answer[Performed]]:
    """Return what performs a task in a thread of its own; which it is stands before the steps that it tells."""

    def answer() -> Answer[Performed]:
        with told_to(lambda step: hears(f"{place} {step}")):
            return answer_to(perform, task)

    return answer


def perform(task: Task) -> Performed:
    """Run one task from images to finished files.

    Raises `InferenceError`, which the host may try again, `NotAnalysable` (PATIENT_MISMATCH) when not even a refusal
    may be written, since the study has images of more than one patient, `SourceDamaged` before anything else is read,
    and `SpoolUnavailable` when the disk has no room for the files.
    """
    quiet_third_parties()
    with on_behalf_of(task.requests):
        return _perform(task)


def _perform(task: Task) -> Performed:
    started = time.perf_counter()
    task = _sound(task)
    check_whose(task)
    parts = Parts(
        lambda request: _as_stated(_answer_to(task, request), request.context),
        _built,
        lambda answer, context, written: build_bundle(answer, context, written, task.fhir),
        lambda answer, context, written, key: build_message(
            answer, context, written, task.fhir, _message_uid(context, key)
        ),
    )
    told = _notice(task, parts) if task.declined else analyse(task.request, parts)
    with room_in(task.request.out_dir):
        files = _write_files(told, task.request)
    summary = summarise(told.answer, task.request.context.review) | {"took_s": round(time.perf_counter() - started, 3)}
    features = told.answer.features if task.asks_model else {}
    return replace(_performed(told, files, summary), features=features)


def _built(answer: Analysis | NotAnalysed, context: ReportContext) -> WrittenResult:
    tell(JobStage.BUILDING)
    return write_result(answer, context)


def _answer_to(task: Task, request: AnalysisRequest) -> Analysis | NotAnalysed:
    """Ask the model; where a person has reviewed what it said, return that, from the headers of the images alone."""
    if task.reviewed is None:
        return run_model(request, place=task.place)
    review, further = request.context.review, task.reviewed.further_uids
    return Analysis(
        model=task.reviewed.model,
        sources=tuple(_header(file) for file in request.files if file.sop_instance_uid not in further),
        further_sources=tuple(_header(file) for file in request.files if file.sop_instance_uid in further),
        findings=tuple(one.finding for one in review.findings) if review else (),
        notes=task.reviewed.notes,
        partial=task.reviewed.partial,
    )


def _header(file: SourceFile) -> Dataset:
    return read_dataset(file.path, pixels=False)


def _sound(task: Task) -> Task:
    """Return the task; where it is only to say why nothing is analysed, without the files that are damaged."""
    request = task.request
    damaged = task.damaged(file.path for file in request.files)
    if damaged and task.declined is None:
        raise SourceDamaged(damaged)
    return replace(task, request=replace(request, files=tuple(f for f in request.files if f.path not in damaged)))


def check_whose(task: Task) -> None:
    """Raise `NotAnalysable` (PATIENT_MISMATCH) when images of the study that are not used are another patient's.

    Of those only the headers are read; their digests are compared where they would cost the study its answer.
    """
    if not task.beside:
        return
    paths = [*(file.path for file in task.request.files), *task.beside]
    try:
        check_one_patient(list(_identities(paths)))
    except NotAnalysable:
        damaged = task.damaged(paths)
        if not damaged:
            raise
        check_one_patient(list(_identities([path for path in paths if path not in damaged])))


def _identities(paths: Sequence[Path]) -> Iterator[Dataset]:
    """Read whose images these are; one that cannot be read says nothing, and is told by who needs it."""
    for path in paths:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTITY))
            drop_unreadable(header)
        except READ_ERRORS:
            continue
        yield header


def _notice(task: Task, parts: Parts) -> AnalysisOutput:
    """Say "not analysed" from the headers alone, pixels may be what went wrong; without headers, if those are."""
    try:
        return write_output(_declined(task), task.request, parts)
    except NotAnalysable:
        raise
    except _COST_THE_NOTICE as error:
        _log.error("notice made from UIDs alone", extra={"study": task.study_instance_uid, "why": type(error).__name__})
        return last_notice(task)


def _declined(task: Task) -> NotAnalysed:
    request = task.request
    sources = []
    for file in request.files:
        with suppress(NotAnalysable):  # a file that cannot be read is perhaps why nothing was analysed
            sources.append(read_dataset(file.path, pixels=False))
    notice = NotAnalysed(
        model=model_of(task),
        sources=tuple(sources),
        reason=task.declined.reason if task.declined else "",
        message=task.declined.message if task.declined else "",
    )
    return _as_stated(notice, request.context)


def _as_stated(answer: _Answer, context: ReportContext) -> _Answer:
    """Have the images say of their patient what a registration has stated since: builders copy it from there."""
    if context.patient is not None:
        for source in analysed_images(answer):
            restate(source, context.patient, context.ae_title, context.started_at)
    return answer


def _performed(told: AnalysisOutput, files: tuple[ProducedFile, ...], summary: Mapping[str, object]) -> Performed:
    declined = told.answer if isinstance(told.answer, NotAnalysed) else None
    return Performed(
        state=state_of(told.answer),
        reason=declined.reason if declined else "",
        message=declined.message if declined else _message(told),
        summary=summary,
        files=files,
        not_made=tuple(told.not_made),
    )


def _message(told: AnalysisOutput) -> str:
    """Return a sentence for an answer that is not the whole one; the notes say what is missing."""
    partial = isinstance(told.answer, Analysis) and told.answer.partial
    assessed = ["Only part of what was wanted could be assessed; see the notes."] if partial else []
    made = ["Not every wanted kind of object could be made; see the notes."] if told.not_made else []
    return " ".join([*assessed, *made])


def _write_files(told: AnalysisOutput, request: AnalysisRequest) -> tuple[ProducedFile, ...]:
    files = [_write_object(written, request.out_dir) for written in told.objects]
    bundle = _write_bundle(told, request.context, request.out_dir)
    return (*files, bundle, *_write_messages(told, request.context, request.out_dir))


def _write_object(written: WrittenObject, folder: Path) -> ProducedFile:
    dataset = written.dataset
    name = f"{written.order:04d}.dcm"
    (folder / name).write_bytes(to_part10(dataset))
    preview_name = ""
    if written.preview_png is not None:
        preview_name = f"{written.order:04d}.png"
        (folder / preview_name).write_bytes(written.preview_png)
    return ProducedFile(
        name=name,
        uid=str(dataset.SOPInstanceUID),
        kind=written.kind,
        media_type=ARTIFACT_KINDS[written.kind].media_type,
        description=written.description,
        order=written.order,
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        preview_name=preview_name,
        output_keys=written.output_keys,
    )


def _write_bundle(told: AnalysisOutput, context: ReportContext, folder: Path) -> ProducedFile:
    """Write the bundle of the first output set; it may hold no object at all."""
    first, bundle = context.output_sets[0].key, ARTIFACT_KINDS[ArtifactKind.FHIR_BUNDLE]
    (folder / "bundle.json").write_bytes(to_json_bytes(told.bundle))
    return ProducedFile(
        name="bundle.json",
        uid=derived_uid("fhir", context.job_key, first),
        kind=bundle.kind,
        media_type=bundle.media_type,
        description=bundle.title,
        order=1 + max((written.order for written in told.objects), default=0),
        output_keys=(first,),
    )


def _write_messages(told: AnalysisOutput, context: ReportContext, folder: Path) -> Iterator[ProducedFile]:
    """Write each HL7 message for the output set that asks for it."""
    message = ARTIFACT_KINDS[ArtifactKind.HL7_MESSAGE]
    after = 2 + max((written.order for written in told.objects), default=0)
    for place, (key, text) in enumerate(told.messages.items()):
        name = f"message-{place}.hl7"
        (folder / name).write_bytes(text.encode())
        yield ProducedFile(
            name=name,
            uid=_message_uid(context, key),
            kind=message.kind,
            media_type=message.media_type,
            description=message.title,
            order=after + place,
            output_keys=(key,),
        )


def _message_uid(context: ReportContext, output_key: str) -> str:
    return derived_uid("hl7", context.job_key, output_key)


_UNKNOWN = "unknown"


def model_of(task: Task) -> ModelIdentity:
    """Return which model did not answer. Raises `NodeError` where its card cannot be read."""
    if task.declined is not None and task.declined.model is not None:
        return task.declined.model
    return load_card(task.request.model_dir).identity(task.request.parameters)


def last_notice(task: Task) -> AnalysisOutput:
    """Return the notice of a task that was declined, of nothing but UIDs and the reason."""
    declined = task.declined or Declined("ANALYSIS_FAILED", "")
    model, context = _model_or_its_name(task), task.request.context
    why = (
        declined.reason,
        f"{declined.message} The headers of the study could not be used; look at the images.".strip(),
    )
    study_uid = task.study_instance_uid
    return AnalysisOutput(
        answer=NotAnalysed(model=model, sources=(), reason=declined.reason, message=why[1]),
        objects=tuple(last_reports(study_uid, model, context, why)),
        bundle=last_bundle(study_uid, model, context, why),
        not_made=(),
        messages={
            wanted.key: last_message(study_uid, model, context, why, _message_uid(context, wanted.key))
            for wanted in context.output_sets
            if wanted.hl7_message
        },
    )


def _model_or_its_name(task: Task) -> ModelIdentity:
    try:
        return model_of(task)
    except NodeError:
        name = task.request.model_dir.name
        return ModelIdentity(
            name=name, version=_UNKNOWN, manufacturer=_UNKNOWN, digest=_UNKNOWN, device_uid=derived_uid("model", name)
        )
