"""The root result: a TID 1500 measurement report that refers to everything else; unverified until it is reviewed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from highdicom.sr import (
    Comprehensive3DSR,
    ComprehensiveSR,
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
from pydicom.sr.codedict import codes as dictionary

from dicom_node.analysis.answer import NotAnalysed, analysed_images, whole_objects
from dicom_node.analysis.context import Predecessor
from dicom_node.analysis.written import WrittenObject
from dicom_node.core import codes
from dicom_node.core.entities import ArtifactKind, Code, ReviewState
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.uids import derived_uid
from dicom_node.sr_writer.identity import ResultIdentity, evidence_header, stamp
from dicom_node.sr_writer.overlays.segmentation import coded
from dicom_node.sr_writer.report.groups import (
    ReportSources,
    algorithm_identification,
    measurement_groups,
    report_sources,
)
from dicom_node.sr_writer.report.kept import kept_objects
from dicom_node.sr_writer.report.library import image_library
from dicom_node.sr_writer.report.statements import (
    coded_reason,
    procedure_reported,
    referenced_requests,
    request_items,
    statements_container,
    summary_code,
    summary_sentences,
)
from dicom_node.sr_writer.report.verification import person_observers, review_items, verify
from dicom_node.sr_writer.text import ascii_text, long_string
from dicom_node.sr_writer.writing import Writing

SERIES_NUMBER = 9901
SR_CLASSES: dict[str, Any] = {
    "comprehensive3d": Comprehensive3DSR,
    "comprehensive": ComprehensiveSR,
    "enhanced": EnhancedSR,
}
NOT_A_NEGATIVE = "The images were not assessed; this is not a negative result."


def structured_reports(
    writing: Writing, wanted: OutputSet, referred: Sequence[WrittenObject]
) -> Iterator[WrittenObject]:
    """Make the one report of an output set; `referred` are the other objects of that set."""
    answer, identity = writing.answer, writing.identity
    referred = [*kept_objects(identity, wanted), *referred]
    results = [one.dataset for one in referred]
    if isinstance(answer, NotAnalysed):
        document = _not_analysed(answer, results, identity, wanted)
    else:
        document = _analysed(report_sources(answer, referred), results, identity, wanted)
    yield WrittenObject(kind=ArtifactKind.STRUCTURED_REPORT, dataset=document, order=1, description="AI report")


def _analysed(
    sources: ReportSources, results: Sequence[Dataset], identity: ResultIdentity, wanted: OutputSet
) -> Dataset:
    """Return the SR of an analysis: one measurement group for every class the model evaluated."""
    analysis = sources.analysis
    partial = analysis.partial or identity.context.study_partial
    limits = [f"Limits: {identity.model.limits}"] if identity.model.limits else []
    review = identity.context.review
    # The code tells how the algorithms fared, and of findings that are not theirs any more.
    is_modified = review is not None and review.state is ReviewState.MODIFIED
    content = _Content(
        images=analysed_images(analysis),
        results=results,
        groups=measurement_groups(sources, identity),
        summary=None if is_modified else summary_code(analysis, partial=partial),
        remarks=[*summary_sentences(analysis, identity.context, partial=partial), *analysis.notes, *limits],
    )
    document = _document(content, identity, wanted)
    document.CompletionFlag = "PARTIAL" if partial else "COMPLETE"
    document.CompletionFlagDescription = long_string(f"AI result, not reviewed{', partial' if partial else ''}")
    if review is not None:
        verify(document, review, identity)
    stamp(document, identity, f"report {identity.model.name}")
    return document


def _not_analysed(
    answer: NotAnalysed, results: Sequence[Dataset], identity: ResultIdentity, wanted: OutputSet
) -> Dataset:
    """Return an SR that says the analysis was not performed and why; it holds no finding, not even an absent one."""
    reason = f"AI ANALYSIS NOT PERFORMED. Reason {answer.reason}: {answer.message} {NOT_A_NEGATIVE}"
    content = _Content(
        images=answer.sources,
        results=results,
        groups=[_not_performed_group(answer, identity)],
        summary=None,
        remarks=[reason, *answer.notes],
    )
    document = _document(content, identity, wanted)
    document.CompletionFlag = "PARTIAL"
    document.CompletionFlagDescription = long_string(f"AI analysis not performed: {answer.reason}")
    stamp(document, identity, f"NOT ANALYSED {identity.model.name}")
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What goes into the tree; `results` are the other objects of the set, each of which the tree refers to."""

    images: Sequence[Dataset]
    results: Sequence[Dataset]
    groups: Sequence[Any]
    summary: Code | None
    remarks: Sequence[str]

    def results_beside_groups(self) -> list[Dataset]:
        """Return the results that no group refers to."""
        named = {str(item.ReferencedSOPInstanceUID) for group in self.groups for item in _references(group)}
        return [one for one in self.results if str(one.SOPInstanceUID) not in named]


def _references(items: Iterable[Dataset]) -> Iterator[Dataset]:
    for item in items:
        yield from item.get("ReferencedSOPSequence") or ()
        yield from _references(item.get("ContentSequence") or ())


def _document(content: _Content, identity: ResultIdentity, wanted: OutputSet) -> Dataset:
    context = identity.context
    predecessor = context.predecessor_for(wanted)
    sr_class = SR_CLASSES[wanted.structured_report]
    first, *others = (*whole_objects(content.images), *content.results)
    document: Dataset = sr_class(
        evidence=[evidence_header(first), *map(_evidence, others)],
        content=_tree(content, identity),
        series_instance_uid=derived_uid(
            "sr-series",
            identity.source.StudyInstanceUID,
            identity.model.name,
            context.route_name,
            wanted.key,
            *([str(context.withdrawn_before)] if context.withdrawn_before else []),
        ),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("sr", wanted.key),
        instance_number=1 if predecessor is None else predecessor.instance_number + 1,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    _insert_library(document, content)
    requests = referenced_requests(identity.source)
    if requests:
        document.ReferencedRequestSequence = requests
    if predecessor is not None:
        document.PredecessorDocumentsSequence = [_predecessor_item(predecessor, identity)]
    return document


def _evidence(dataset: Dataset) -> Dataset:
    """Return what evidence beside the first must tell: which instance of which series it is."""
    header = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        header[keyword] = dataset[keyword]
    return header


def _tree(content: _Content, identity: ResultIdentity) -> MeasurementReport:
    report = MeasurementReport(
        observation_context=_observation_context(identity),
        procedure_reported=procedure_reported(identity.source),
        imaging_measurements=content.groups,
        title=dictionary.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.extend(request_items(identity.context))
    statements = statements_container(content.summary, content.remarks, review_items(identity))
    if statements is not None:
        report[0].ContentSequence.append(statements)
    return report


def _insert_library(document: Dataset, content: _Content) -> None:
    """Put the image library before the measurements.

    highdicom's own needs attributes that radiographs often lack, and copies and searches what it is given several
    times: with hundreds of images that costs more than all the rest.
    """
    items = document.ContentSequence
    names = [item.ConceptNameCodeSequence[0].CodeValue for item in items]
    library = image_library(content.images, content.results_beside_groups())
    items.insert(names.index(dictionary.DCM.ImagingMeasurements.value), library)


def _observation_context(identity: ResultIdentity) -> ObservationContext:
    model = identity.model
    device = DeviceObserverIdentifyingAttributes(
        uid=model.device_uid,
        name=ascii_text(identity.context.ae_title),
        manufacturer_name=ascii_text(model.manufacturer),
        model_name=ascii_text(model.name),
        serial_number=ascii_text(model.version),
    )
    context = ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=dictionary.DCM.Device, observer_identifying_attributes=device
        )
    )
    for place, item in enumerate(person_observers(identity)):
        context.insert(place, item)
    return context


def _not_performed_group(answer: NotAnalysed, identity: ResultIdentity) -> MeasurementsAndQualitativeEvaluations:
    """One group without a finding: viewers that open the first group of a report find one, and it says why."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=identity.uid("tracking", "not-analysed"), identifier="AI ANALYSIS NOT PERFORMED"
        ),
        algorithm_id=algorithm_identification(answer.model, answer.model.parameters),
        qualitative_evaluations=[
            QualitativeEvaluation(name=coded(codes.SUMMARY_OF_ANALYSES), value=coded(codes.NOT_ATTEMPTED)),
            QualitativeEvaluation(name=coded(codes.REASON_NOT_ANALYSED), value=coded_reason(answer.reason)),
        ],
        source_images=[SourceImageForMeasurementGroup(i.SOPClassUID, i.SOPInstanceUID) for i in answer.sources[:1]],
    )


def _predecessor_item(predecessor: Predecessor, identity: ResultIdentity) -> Dataset:
    """Name the report of the same study that this one replaces (PS3.3 C.17.2.3)."""
    reference, series, study = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID = predecessor.sop_class_uid
    reference.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    series.SeriesInstanceUID = predecessor.series_instance_uid
    series.ReferencedSOPSequence = [reference]
    study.StudyInstanceUID = identity.source.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
