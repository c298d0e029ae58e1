"""What runs inside the worker process: the composition of model, writers and FHIR builders around `pipeline`.

The host hands over a `Task` and gets a `Performed` back; finished objects lie as files in the task's folder. Only
this process decodes pixels and loads models, so a hostile image or a broken model never touches what receives.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pydicom

from dicom_node.analysis.answer import Analysis, AnalysisRequest, NotAnalysed, ReportContext, WrittenObject
from dicom_node.analysis.summary import state_of, summarise
from dicom_node.core.artifact_kinds import ARTIFACT_KINDS
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.builders.bundle import build_bundle, to_json_bytes
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.runner import run_model
from dicom_node.inference.workers.together import run_together
from dicom_node.jobs.tasks import Performed, ProducedFile, Task
from dicom_node.logs import quiet_third_parties
from dicom_node.pipeline import AnalysisOutput, Parts, analyse, write_output
from dicom_node.sandbox.child import OutOfMemory, answer_to
from dicom_node.sr_writer import to_part10, write_result


def work(request: Task | tuple[Task, ...]) -> object:
    """Perform one task or, of several that share network calls, tell for each what came of it.

    Raises `InferenceError`, and `MemoryError` when any of several ran out of memory: the process must end then.
    """
    if isinstance(request, Task):
        return perform(request)
    answers = run_together([partial(answer_to, perform, task) for task in request])
    if any(isinstance(answer, OutOfMemory) for answer in answers):
        raise MemoryError
    return answers


def perform(task: Task) -> Performed:
    """Run one task from images to finished files. Raises `InferenceError`, which the host may try again."""
    quiet_third_parties()
    started = time.perf_counter()
    parts = Parts(
        partial(run_model, place=task.place),
        write_result,
        lambda answer, context, written: build_bundle(answer, context, written, task.fhir),
    )
    told = write_output(_declined(task), task.request, parts) if task.declined else analyse(task.request, parts)
    files = _write_files(told, task.request)
    return _performed(told, files, time.perf_counter() - started)


def _declined(task: Task) -> NotAnalysed:
    """Say "not analysed" from the headers alone; pixels may be what went wrong."""
    assert task.declined is not None
    request = task.request
    return NotAnalysed(
        model=task.declined.model or load_card(request.model_dir).identity(request.parameters),
        sources=tuple(pydicom.dcmread(file.path, stop_before_pixels=True) for file in request.files),
        reason=task.declined.reason,
        message=task.declined.message,
    )


def _performed(told: AnalysisOutput, files: tuple[ProducedFile, ...], took_s: float) -> Performed:
    summary = summarise(told.answer) | {"took_s": round(took_s, 3)}
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
    return (*files, _write_bundle(told, request.context, request.out_dir))


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
