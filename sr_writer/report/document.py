"""The root result: a TID 1500 measurement report that refers to everything else, preliminary and unverified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from highdicom.sr import (
    Comprehensive3DSR,
    ComprehensiveSR,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.sr.codedict import codes as dictionary

from dicom_node.analysis import NotAnalysed, Predecessor, WrittenObject, whole_objects
from dicom_node.model import ArtifactKind
from dicom_node.outputs import OutputSet
from dicom_node.sr_writer.identity import ResultIdentity, evidence_header, stamp
from dicom_node.sr_writer.report.groups import (
    ReportSources,
    algorithm_identification,
    measurement_groups,
    report_sources,
    summary_remarks,
)
from dicom_node.sr_writer.report.parts import (
    image_library,
    procedure_reported,
    referenced_requests,
    remarks_container,
)
from dicom_node.sr_writer.text import ascii_text, long_string
from dicom_node.sr_writer.writing import Writing
from dicom_node.uids import derived_uid

SERIES_NUMBER = 9901
SR_CLASSES: dict[str, Any] = {
    "comprehensive3d": Comprehensive3DSR,
    "comprehensive": ComprehensiveSR,
    "enhanced": EnhancedSR,
}
NOT_A_NEGATIVE = "The images were not assessed; this is not a negative result."


def structured_report(writing: Writing, wanted: OutputSet, referred: Sequence[WrittenObject]) -> WrittenObject:
    """Return the report of one output set; `referred` are the other objects of that set."""
    answer, identity = writing.answer, writing.identity
    if isinstance(answer, NotAnalysed):
        document = _not_analysed(answer, [one.dataset for one in referred], identity, wanted)
    else:
        document = _analysed(report_sources(answer, referred), identity, wanted)
    return WrittenObject(kind=ArtifactKind.STRUCTURED_REPORT, dataset=document, order=1, description="AI report")


def _analysed(sources: ReportSources, identity: ResultIdentity, wanted: OutputSet) -> Dataset:
    """Return the SR of an analysis: one measurement group for every class the model evaluated."""
    analysis = sources.analysis
    remarks = [
        *summary_remarks(sources),
        *analysis.notes,
        *([f"Limits: {identity.model.limits}"] if identity.model.limits else []),
    ]
    partial = analysis.partial or identity.context.study_partial
    if partial:
        remarks.insert(0, "PARTIAL: only part of the study could be assessed.")
    referenced = [*sources.pictures.values(), *([sources.segmentation] if sources.segmentation is not None else [])]
    content = _Content(analysis.sources, referenced, measurement_groups(sources, identity), remarks)
    document = _document(content, identity, wanted)
    document.CompletionFlag = "PARTIAL" if partial else "COMPLETE"
    document.CompletionFlagDescription = long_string(f"AI result, not reviewed{', partial' if partial else ''}")
    stamp(document, identity, f"report {identity.model.name}")
    return document


def _not_analysed(
    answer: NotAnalysed, pictures: Sequence[Dataset], identity: ResultIdentity, wanted: OutputSet
) -> Dataset:
    """Return an SR that says the analysis was not performed and why; it holds no finding, not even an absent one."""
    reason = f"AI ANALYSIS NOT PERFORMED. Reason {answer.reason}: {answer.message} {NOT_A_NEGATIVE}"
    group = _not_performed_group(answer, identity)
    content = _Content(answer.sources, list(pictures), [group], [reason, *answer.notes])
    document = _document(content, identity, wanted)
    document.CompletionFlag = "PARTIAL"
    document.CompletionFlagDescription = long_string(f"AI analysis not performed: {answer.reason}")
    stamp(document, identity, f"NOT ANALYSED {identity.model.name}")
    return document


@dataclass(frozen=True, slots=True)
class _Content:
    """What goes into the tree."""

    images: Sequence[Dataset]
    own_objects: Sequence[Dataset]
    groups: Sequence[Any]
    remarks: Sequence[str]


def _document(content: _Content, identity: ResultIdentity, wanted: OutputSet) -> Dataset:
    context = identity.context
    sr_class = SR_CLASSES[wanted.structured_report]
    evidence = [evidence_header(dataset) for dataset in (*whole_objects(content.images), *content.own_objects)]
    document: Dataset = sr_class(
        evidence=evidence,
        content=_tree(content, identity),
        series_instance_uid=derived_uid(
            "sr-series",
            identity.source.StudyInstanceUID,
            identity.model.name,
            context.route_name,
            wanted.structured_report,
        ),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("sr", wanted.key),
        instance_number=1 if context.predecessor is None else context.predecessor.instance_number + 1,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    requests = referenced_requests(identity.source)
    if requests:
        document.ReferencedRequestSequence = requests
    if context.predecessor is not None:
        document.PredecessorDocumentsSequence = [_predecessor_item(context.predecessor)]
    return document


def _tree(content: _Content, identity: ResultIdentity) -> MeasurementReport:
    report = MeasurementReport(
        observation_context=_observation_context(identity),
        procedure_reported=procedure_reported(identity.source),
        imaging_measurements=content.groups,
        title=dictionary.DCM.ImagingMeasurementReport,
    )
    root = report[0]
    items = list(root.ContentSequence)
    measurements = next(i for i, item in enumerate(items) if item.name == dictionary.DCM.ImagingMeasurements)
    # highdicom's own image library needs geometry that radiographs often lack.
    items.insert(measurements, image_library(content.images))
    if content.remarks:
        items.append(remarks_container(content.remarks))
    root.ContentSequence = ContentSequence(items)
    return report


def _observation_context(identity: ResultIdentity) -> ObservationContext:
    model = identity.model
    device = DeviceObserverIdentifyingAttributes(
        uid=model.device_uid,
        name=ascii_text(identity.context.ae_title),
        manufacturer_name=ascii_text(model.manufacturer),
        model_name=ascii_text(model.name),
        serial_number=ascii_text(model.version),
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=dictionary.DCM.Device, observer_identifying_attributes=device
        )
    )


def _not_performed_group(answer: NotAnalysed, identity: ResultIdentity) -> MeasurementsAndQualitativeEvaluations:
    """One group without a finding: viewers that open the first group of a report find one, and it says why."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=identity.uid("tracking", "not-analysed"), identifier="AI ANALYSIS NOT PERFORMED"
        ),
        algorithm_id=algorithm_identification(answer.model, [*answer.model.parameters, f"reason={answer.reason}"]),
        qualitative_evaluations=[
            QualitativeEvaluation(name=dictionary.DCM.SummaryOfAnalyses, value=dictionary.DCM.NotAttempted)
        ],
        source_images=[SourceImageForMeasurementGroup(i.SOPClassUID, i.SOPInstanceUID) for i in answer.sources[:1]],
    )


def _predecessor_item(predecessor: Predecessor) -> Dataset:
    """Name the report that this one replaces (PS3.3 C.17.2.3)."""
    earlier = dcmread(predecessor.path, stop_before_pixels=True)
    reference, series, study = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID = earlier.SOPClassUID
    reference.ReferencedSOPInstanceUID = earlier.SOPInstanceUID
    series.SeriesInstanceUID = earlier.SeriesInstanceUID
    series.ReferencedSOPSequence = [reference]
    study.StudyInstanceUID = earlier.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
