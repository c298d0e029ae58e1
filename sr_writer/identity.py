"""What makes an object belong to its study and to this node: patient, study, times, equipment, marking.

The patient and study attributes are copied byte for byte from the source and never improved (PS3.3 C.7.1, C.7.2).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from zoneinfo import ZoneInfo

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as pydicom_codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed, analysed_images
from dicom_node.analysis.context import ReportContext
from dicom_node.core import codes
from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.uids import coding_scheme_uid, derived_uid
from dicom_node.headers.patient import meaning
from dicom_node.sr_writer.copied import COPIED, TYPE_2, writable
from dicom_node.sr_writer.text import long_string, marking_of, standing_of

#: One study has one of each; instances that disagree were merged or mistyped, and nobody may choose between them.
ONE_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
ONE_STUDY = ("StudyInstanceUID", "AccessionNumber")

#: Modalities of documents: they are about images, and their series has no body part (PS3.3 C.17.1, C.17.6, C.24.1).
_NO_BODY_PART = frozenset({"SR", "KO", "DOC"})

#: Character sets of two bytes, which only an escape sequence switches to.
_ONLY_BY_ESCAPE = frozenset({"ISO 2022 IR 87", "ISO 2022 IR 159", "ISO 2022 IR 149", "ISO 2022 IR 58"})
_COPIED_TAGS = frozenset(Tag(keyword) for keyword in COPIED)
_UTC_OFFSET = re.compile(r"([+-])([01]\d)([0-5]\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultIdentity:
    """Whose result this is and when it was made or verified; `source` is the header that is copied, `made_at` is local
    time."""

    source: Dataset
    model: ModelIdentity
    context: ReportContext
    made_at: datetime

    def uid(self, *role: str) -> str:
        """Return the UID of one thing made by this job; the same job and role always give the same UID."""
        return derived_uid(self.context.job_key, *role)

    @property
    def marking(self) -> str:
        """The words that say whether a human answers for this."""
        return marking_of(self.context)

    @property
    def standing(self) -> str:
        """The sentence that says so, with the names of those who do."""
        return standing_of(self.context, self.made_at.tzinfo)


def identity_of(answer: Analysis | NotAnalysed, context: ReportContext) -> ResultIdentity:
    """Find out whose result this is.

    Raises `NotAnalysable` (``PATIENT_MISMATCH``, ``STUDY_MISMATCH``) when the sources disagree, and `ValueError`
    without any source, since nothing then says whose study it is.
    """
    if not answer.sources:
        raise ValueError("An answer without source images cannot be written; pass at least one header of the study.")
    check_one_patient(analysed_images(answer))
    _require_one_value(analysed_images(answer), ONE_STUDY, "STUDY_MISMATCH")
    source = _fullest_named(writable(answer.sources[0]), answer.sources)
    return ResultIdentity(source=source, model=answer.model, context=context, made_at=local_time(context, source))


def check_one_patient(headers: Sequence[Dataset]) -> None:
    """Raise `NotAnalysable` (PATIENT_MISMATCH) when headers of one study name more than one patient.

    Values are compared by what they mean: blanks around a value and empty components at the end of a name say nothing
    (PS3.5 6.2, 6.2.1); what is not said in one header does not contradict the others, but for the PatientID.
    """
    _require_one_value(headers, ONE_PATIENT, "PATIENT_MISMATCH")


def _fullest_named(source: Dataset, sources: Sequence[Dataset]) -> Dataset:
    """Give `source` the name in its fullest spelling: with the most groups, without a tail of empty components."""
    written = {str(one.get("PatientName") or ""): one for one in reversed(sources)}
    if len(written) > 1:
        fullest = max(written, key=lambda name: (len(name.replace("^", "").replace(" ", "")), -len(name), name))
        same_letters = written[fullest].get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
        if same_letters and "PatientName" in (valid := writable(written[fullest])):
            source["PatientName"] = valid["PatientName"]
    return source


def stamp(dataset: Dataset, identity: ResultIdentity, series_description: str) -> None:
    """Write patient, study, times, equipment and marking into a finished object."""
    _copy_patient_and_study(dataset, identity.source)
    _say_what_images_said(dataset, identity)
    _set_times(dataset, identity.made_at)
    _set_equipment(dataset, identity)
    identify_private_scheme(dataset)
    marked = f" - {identity.marking.removeprefix('AI - ')}"
    dataset.SeriesDescription = long_string(f"AI {series_description}", 64 - len(marked)) + marked
    if dataset.Modality not in _NO_BODY_PART:
        set_body_part(dataset, identity.source)


def evidence_header(source: Dataset) -> Dataset:
    """Return what a report must know to refer to `source`: its UIDs; patient and study stay blank (see `stamp`)."""
    header = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        header[keyword] = source[keyword]
    _blank_patient_and_study(header, source)
    return header


def builder_header(source: Dataset) -> Dataset:
    """Return a header of `source` that highdicom accepts, whatever the source lacks or has wrong.

    Patient and study values are blank in it, since `stamp` copies the real ones afterwards without interpreting
    them; pixels are left out. The source is not changed.
    """
    header = Dataset()
    for element in source:
        tag = element.tag
        if tag.group != 0x7FE0 and not tag.is_private and tag not in _COPIED_TAGS:
            header.add(element)
    _blank_patient_and_study(header, source)
    if hasattr(source, "file_meta"):
        header.file_meta = source.file_meta
    return header


def _blank_patient_and_study(header: Dataset, source: Dataset) -> None:
    for keyword in TYPE_2:
        setattr(header, keyword, "")
    header.StudyInstanceUID = source.StudyInstanceUID
    header.SpecificCharacterSet = "ISO_IR 100"


def _require_one_value(sources: Sequence[Dataset], keywords: Sequence[str], reason: str) -> None:
    for keyword in keywords:
        meanings = {meaning(source, keyword) for source in sources}
        count = max(len(set(group)) for group in _by_group(meanings, keyword))
        if count > 1:
            raise NotAnalysable(
                reason,
                f"The images of one study disagree in {keyword} ({count} different values); "
                "correct the study at its source and send it again.",
            )


def _by_group(meanings: set[tuple[str, ...]], keyword: str) -> Iterator[list[str]]:
    """Yield for each group what the sources say; a group that a source lacks contradicts nothing."""
    must_be_said = keyword in {"PatientID", "StudyInstanceUID"}
    for values in zip_longest(*meanings, fillvalue=""):
        yield [value for value in values if value or must_be_said]


def _copy_patient_and_study(dataset: Dataset, source: Dataset) -> None:
    for keyword in COPIED:
        if keyword in source:
            dataset[keyword] = copy.deepcopy(source[keyword])
        elif keyword in TYPE_2:
            setattr(dataset, keyword, "")
        elif keyword in dataset:
            del dataset[keyword]
    stated = dataset.get("SpecificCharacterSet")
    if not stated:
        # ASCII is a subset; an old sender's undeclared Latin-1 letters become readable without a byte changing.
        dataset.SpecificCharacterSet = "ISO_IR 100"
    elif isinstance(stated, str) and stated in _ONLY_BY_ESCAPE:
        # Such a set may not come first (PS3.3 C.12.1.1.2), and ASCII could not be written in it.
        dataset.SpecificCharacterSet = ["", stated]


def _say_what_images_said(dataset: Dataset, identity: ResultIdentity) -> None:
    """Keep what the images say of their patient where a registration says otherwise by now (`headers.patient`)."""
    kept = identity.source.get("OriginalAttributesSequence") or ()
    own = [item for item in kept if item.get("ModifyingSystem") == identity.context.ae_title]
    if identity.context.patient is not None and own:
        dataset.OriginalAttributesSequence = [copy.deepcopy(own[-1])]


def _set_times(dataset: Dataset, made_at: datetime) -> None:
    date, time = made_at.strftime("%Y%m%d"), made_at.strftime("%H%M%S")
    for name in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{name}Date", date)
        setattr(dataset, f"{name}Time", time)


def _set_equipment(dataset: Dataset, identity: ResultIdentity) -> None:
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = PRODUCT_NAME
    dataset.SoftwareVersions = __version__
    dataset.DeviceSerialNumber = long_string(identity.context.node_uid)
    dataset.DeviceUID = identity.model.device_uid
    if identity.context.institution:
        dataset.InstitutionName = long_string(identity.context.institution)
    dataset.ContributingEquipmentSequence = [_contributing_model(identity)]


def _contributing_model(identity: ResultIdentity) -> Dataset:
    """Say which algorithm made this (IHE AI Results: one item per algorithm, a new DeviceUID per retrained model)."""
    model = identity.model
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(pydicom_codes.DCM.ProcessingEquipment)]
    item.Manufacturer = long_string(model.manufacturer)
    item.ManufacturerModelName = long_string(model.name)
    item.SoftwareVersions = [long_string(model.version), long_string(model.digest)]
    item.DeviceUID = model.device_uid
    analysed_at = identity.context.started_at.astimezone(identity.made_at.tzinfo)
    item.ContributionDateTime = analysed_at.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = long_string(f"AI inference by route {identity.context.route_name}")
    return item


def code_item(code: Code) -> Dataset:
    """Return a code sequence item for a code of pydicom's dictionary."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def local_time(context: ReportContext, source: Dataset) -> datetime:
    """Return when it was told (`ReportContext.told_at`) in the zone of the study, so that one object never mixes zones
    (PS3.3 C.12.1.1.8).

    A source that names no zone shows the site's local time. Results then name none either: TimezoneOffsetFromUTC would
    hold for the copied StudyTime too, which may be of the other half of the year.
    """
    match = _UTC_OFFSET.fullmatch(str(source.get("TimezoneOffsetFromUTC") or ""))
    if match is None:
        return context.told_at.astimezone(ZoneInfo(context.time_zone_name) if context.time_zone_name else None)
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (1 if sign == "+" else -1)
    return context.told_at.astimezone(timezone(offset))


# --- body part and side (PS3.3 C.7.3.1: Laterality is type 2C) -------------------------------------------------------

#: Defined terms of PS3.16 Annex L that do not come in pairs; for any other term a missing side matters.
UNPAIRED_PARTS = frozenset(
    {
        *("ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CEREBELLUM", "CERVIX", "CHEST"),
        *("CHESTABDOMEN", "CHESTABDPELVIS", "CIRCLEOFWILLIS", "COCCYX", "COLON", "CSPINE", "CTSPINE", "DUODENUM"),
        *("ESOPHAGUS", "FACE", "GALLBLADDER", "HEAD", "HEADNECK", "HEART", "ILEUM", "ILIUM", "JAW", "JEJUNUM"),
        *("LARYNX", "LIVER", "LSPINE", "LSSPINE", "MEDIASTINUM", "MOUTH", "NECK", "NECKCHEST", "NECKCHESTABDOMEN"),
        *("NECKCHESTABDPELV", "NOSE", "PANCREAS", "PELVIS", "PENIS", "PHARYNX", "PROSTATE", "RECTUM", "SCALP"),
        *("SKULL", "SPINE", "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "THYMUS", "THYROID", "TLSPINE", "TONGUE"),
        *("TRACHEA", "TSPINE", "UTERUS", "VAGINA", "VULVA", "WHOLEBODY"),
    }
)


def set_body_part(dataset: Dataset, source: Dataset) -> None:
    """Give `dataset` the body part of the source, and a laterality where that part is paired or unknown.

    What the source does not say stays empty: that is what type 2C asks for, and inventing a side is not an option.
    A segmentation names the side of each segment instead.
    """
    part = str(source.get("BodyPartExamined") or "")
    if part:
        dataset["BodyPartExamined"] = copy.deepcopy(source["BodyPartExamined"])
    if part not in UNPAIRED_PARTS and dataset.Modality != "SEG":
        dataset.Laterality = _side_of(source)


def _side_of(source: Dataset) -> str:
    for keyword in ("Laterality", "ImageLaterality"):
        side = str(source.get(keyword) or "")
        if side in {"L", "R"}:
            return side
    return ""


# --- this project's coding scheme (PS3.3 C.12.1.1.2) -----------------------------------------------------------------


def identify_private_scheme(dataset: Dataset) -> None:
    """Add the scheme to those the source identified, if any code in `dataset` is of it."""
    if not any(e.keyword == "CodingSchemeDesignator" and e.value == codes.PRIVATE_SCHEME for e in dataset.iterall()):
        return
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    item.CodingSchemeUID = coding_scheme_uid(codes.PRIVATE_SCHEME)
    item.CodingSchemeName = codes.PRIVATE_SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    known = dataset.get("CodingSchemeIdentificationSequence") or ()
    others = [one for one in known if one.get("CodingSchemeDesignator") != codes.PRIVATE_SCHEME]
    dataset.CodingSchemeIdentificationSequence = [*others, item]
