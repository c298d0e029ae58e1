"""The last word on a study that could not even be told in the usual way: UIDs, the model and the reason, nothing else.

Made element by element of values that are the node's own, so that nothing which came from outside can prevent it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__
from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind, ModelIdentity
from dicom_node.core.outputs.artifact_kinds import REPORTS, OutputSet, is_off
from dicom_node.core.uids import derived_uid
from dicom_node.sr_writer.copied import TYPE_2
from dicom_node.sr_writer.identity import code_item, local_time
from dicom_node.sr_writer.text import ascii_text, long_string, marking

SERIES_NUMBER = 9906


def last_reports(
    study_instance_uid: str, model: ModelIdentity, context: ReportContext, reason: tuple[str, str]
) -> Iterator[WrittenObject]:
    """Make one report for each output set that wants one; `reason` is its code and a sentence.

    Patient and study are blank (type 2) but for the Study Instance UID, by which an archive files it.
    """
    wanting = [one for one in context.output_sets if not is_off(one.structured_report)]
    for order, wanted in enumerate(wanting, start=1):
        dataset = _report(study_instance_uid, context, wanted)
        dataset.SeriesDescription = long_string(f"AI NOT ANALYSED {model.name} - {marking(context.intended_use)}")
        dataset.CompletionFlagDescription = long_string(f"AI analysis not performed: {reason[0]}")
        said = (
            f"{marking(context.intended_use)}. NOT ANALYSED by {model.name} {model.version}: {reason[0]}. {reason[1]}"
        )
        dataset.ContentSequence = [_sentence(said)]
        yield WrittenObject(
            kind=ArtifactKind.STRUCTURED_REPORT, dataset=dataset, order=order,
            description="Not analysed (patient and study left blank)", output_keys=(wanted.key,),
        )  # fmt: skip


def _report(study_instance_uid: str, context: ReportContext, wanted: OutputSet) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = REPORTS[wanted.structured_report]
    dataset.SOPInstanceUID = derived_uid(context.job_key, "last-notice", wanted.key)
    for keyword in TYPE_2:
        setattr(dataset, keyword, "")
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.StudyInstanceUID = study_instance_uid
    dataset.SeriesInstanceUID = derived_uid(context.job_key, "last-notice-series", wanted.key)
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.Modality = SERIES_NUMBER, 1, "SR"
    dataset.ReferencedPerformedProcedureStepSequence, dataset.PerformedProcedureCodeSequence = [], []
    dataset.ContentDate, dataset.ContentTime = local_time(context, dataset).strftime("%Y%m%d %H%M%S").split()
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, PRODUCT_NAME
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = __version__, long_string(context.node_uid)
    dataset.CompletionFlag, dataset.VerificationFlag = "PARTIAL", "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [code_item(dictionary.LN.DiagnosticImagingReport)]
    return dataset


def _sentence(text: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [code_item(dictionary.DCM.Comment)]
    item.TextValue = ascii_text(text)
    return item
