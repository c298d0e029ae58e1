"""The notice that goes out when nothing else can be made of a study: what it is called, and why it was not analysed."""

from __future__ import annotations

from dicom_node.analysis.answer import Declined, NotAnalysed
from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import NodeError
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.builders.last_notice import last_bundle
from dicom_node.inference.cards.card import load_card
from dicom_node.jobs.tasks import Task
from dicom_node.pipeline import AnalysisOutput
from dicom_node.sr_writer.last_notice import last_reports

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
    )


def _model_or_its_name(task: Task) -> ModelIdentity:
    try:
        return model_of(task)
    except NodeError:
        name = task.request.model_dir.name
        return ModelIdentity(
            name=name, version=_UNKNOWN, manufacturer=_UNKNOWN, digest=_UNKNOWN, device_uid=derived_uid("model", name)
        )
