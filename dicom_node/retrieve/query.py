"""C-FIND, Study Root (PS3.4 C.4.1): what a PACS has, asked level by level."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.core.errors import NotFound, SourceRefused, SourceUnavailable
from dicom_node.dimse.command_set import Element, Field
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.retrieve_scu import STUDY_ROOT_FIND, Message, RetrieveAssociation, cancel, request
from dicom_node.retrieve.source import FoundStudy, WantedStudy

_LONGEST_IDENTIFIER_BYTES = 1 << 20
#: Answers read and dropped after a C-CANCEL, before the association is broken off.
_PATIENCE_AFTER_CANCEL = 1000
_PENDING = {0xFF00, 0xFF01}
_CANCELLED = 0xFE00
_MESSAGE_ID = 1


def find(
    remote: Remote, association: RetrieveAssociation, keys: Mapping[str, str], limit: int | None = None
) -> Iterator[Dataset]:
    """Yield the matches of one C-FIND, at most `limit`; `keys` map keywords to what must match, "" to be told.

    Raises `SourceUnavailable` and `SourceRefused`.
    """
    context_id, syntax = _context(remote, association, STUDY_ROOT_FIND)
    association.send(context_id, request(Field.C_FIND_RQ, STUDY_ROOT_FIND, _MESSAGE_ID), identifier(keys, syntax))
    found = dropped = 0
    while True:
        message = association.next_message()
        status = status_of(remote, message, Field.C_FIND_RSP)
        if status not in _PENDING:
            _check_end(remote, status)
            return
        if limit is not None and found >= limit:
            dropped += 1
            _drop(remote, dropped)
            if dropped == 1:
                association.send(context_id, cancel(_MESSAGE_ID))
            continue
        found += 1
        yield read_identifier(remote, message, syntax)


def _drop(remote: Remote, dropped: int) -> None:
    if dropped > _PATIENCE_AFTER_CANCEL:
        raise SourceUnavailable(f"{remote} does not heed C-CANCEL. Ask for fewer studies: name a date.")


def _check_end(remote: Remote, status: int) -> None:
    if status in {0x0000, _CANCELLED}:
        return
    if status == 0xA700:
        raise SourceUnavailable(f"{remote} answered C-FIND with 0xA700 (out of resources). Ask again later.")
    raise SourceRefused(f"{remote} answered C-FIND with 0x{status:04X}; its log may say why.")


def identifier(keys: Mapping[str, str], transfer_syntax_uid: str) -> bytes:
    """Encode what is asked for."""
    dataset = Dataset()
    if not all(value.isascii() for value in keys.values()):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    encoded = encode(dataset, UID(transfer_syntax_uid).is_implicit_VR, is_little_endian=True)
    if encoded is None:
        raise ValueError("the identifier cannot be encoded")
    return encoded


def read_identifier(remote: Remote, message: Message, transfer_syntax_uid: str) -> Dataset:
    """Decode the identifier that came with a response. Raises `SourceUnavailable`."""
    encoded = bytearray()
    for piece in message.pieces:
        encoded += piece
        if len(encoded) > _LONGEST_IDENTIFIER_BYTES:
            raise SourceUnavailable(f"{remote} sent a match of more than {_LONGEST_IDENTIFIER_BYTES} bytes.")
    try:
        dataset = decode(BytesIO(encoded), UID(transfer_syntax_uid).is_implicit_VR, is_little_endian=True)
        for _ in dataset:  # pydicom converts values when they are first looked at
            pass
    except (ValueError, TypeError, LookupError, AttributeError, EOFError, NotImplementedError, struct.error) as error:
        raise SourceUnavailable(f"{remote} sent a match that is no data set.") from error
    return dataset


def status_of(remote: Remote, message: Message, field: Field) -> int:
    """Return the status of a response. Raises `SourceUnavailable` when the message is something else."""
    try:
        if message.command.number(Element.COMMAND_FIELD) == field:
            return message.command.number(Element.STATUS)
    except ValueError:
        pass
    raise SourceUnavailable(f"{remote} sent another message than {field.name}.")


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """Return the values of an element as texts without padding; none when it is missing or empty."""
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue | list) else [value]
    return [text for text in (str(one).strip() for one in values if one is not None) if text]


def number(dataset: Dataset, keyword: str) -> int | None:
    """Return an integer string, `None` when the PACS does not tell or tells nonsense."""
    found = texts(dataset, keyword)
    return int(found[0]) if found and found[0].isdecimal() else None


def _context(remote: Remote, association: RetrieveAssociation, sop_class_uid: str) -> tuple[int, str]:
    found = association.context_of(sop_class_uid)
    if found is None:
        raise SourceRefused(f"{remote} does not accept {UID(sop_class_uid).name}. Enable it there for this node.")
    return found


# --- what a PACS says it holds of a study --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holdings:
    """How many objects there are, and their SOP classes and modalities as far as the PACS tells."""

    count: int
    sop_classes: Sequence[str]
    modalities: Sequence[str]


@dataclass(frozen=True, slots=True)
class Listed:
    """One object the PACS names."""

    series_instance_uid: str
    sop_instance_uid: str


def study_keys() -> dict[str, str]:
    """Return what is asked of each study; the patient is not."""
    told = ("StudyInstanceUID", "StudyDate", "AccessionNumber", "StudyDescription", "ModalitiesInStudy",
            "SOPClassesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")  # fmt: skip
    return {"QueryRetrieveLevel": "STUDY"} | dict.fromkeys(told, "")


def found_study(dataset: Dataset) -> FoundStudy:
    """Return a match at study level as the API shows it."""
    return FoundStudy(
        study_instance_uid=_first(dataset, "StudyInstanceUID"),
        accession_number=_first(dataset, "AccessionNumber"),
        study_date=_first(dataset, "StudyDate"),
        description=_first(dataset, "StudyDescription"),
        modalities=texts(dataset, "ModalitiesInStudy"),
        series=number(dataset, "NumberOfStudyRelatedSeries"),
        instances=number(dataset, "NumberOfStudyRelatedInstances"),
    )


def holdings(remote: Remote, association: RetrieveAssociation, wanted: WantedStudy) -> Holdings:
    """Ask what there is. Raises `NotFound`, `SourceUnavailable` and `SourceRefused`."""
    keys = study_keys() | {"StudyInstanceUID": wanted.study_instance_uid}
    studies = list(find(remote, association, keys, 1))
    if not studies:
        raise NotFound(f"{remote} has no study {wanted.study_instance_uid}. Check the UID.")
    series = _series(remote, association, wanted)
    count = None if wanted.series_instance_uids else number(studies[0], "NumberOfStudyRelatedInstances")
    if count is None:
        count = sum(_count(remote, association, wanted, one) for one in series)
    modalities = [one for dataset in series for one in texts(dataset, "Modality")]
    return Holdings(count, texts(studies[0], "SOPClassesInStudy"), modalities)


def listed(remote: Remote, association: RetrieveAssociation, wanted: WantedStudy) -> list[Listed]:
    """Ask for every single object. Raises as `holdings` does."""
    series = _series(remote, association, wanted)
    return [one for dataset in series for one in _objects(remote, association, wanted, dataset)]


def _series(remote: Remote, association: RetrieveAssociation, wanted: WantedStudy) -> list[Dataset]:
    """Return the series asked for, as the PACS describes them."""
    keys = {
        "QueryRetrieveLevel": "SERIES", "StudyInstanceUID": wanted.study_instance_uid, "SeriesInstanceUID": "",
        "Modality": "", "NumberOfSeriesRelatedInstances": "",
    }  # fmt: skip
    all_series = list(find(remote, association, keys))
    if not wanted.series_instance_uids:
        return all_series
    chosen = [one for one in all_series if one.get("SeriesInstanceUID") in wanted.series_instance_uids]
    if not chosen:
        raise NotFound(f"{remote} has none of these series of study {wanted.study_instance_uid}. Check the UIDs.")
    return chosen


def _count(remote: Remote, association: RetrieveAssociation, wanted: WantedStudy, series: Dataset) -> int:
    """Return how many objects a series has; where the PACS counts nothing they are counted one by one."""
    told = number(series, "NumberOfSeriesRelatedInstances")
    return sum(1 for _ in _objects(remote, association, wanted, series)) if told is None else told


def _objects(
    remote: Remote, association: RetrieveAssociation, wanted: WantedStudy, series: Dataset
) -> Iterator[Listed]:
    series_uid = _first(series, "SeriesInstanceUID")
    keys = {
        "QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": wanted.study_instance_uid,
        "SeriesInstanceUID": series_uid, "SOPInstanceUID": "",
    }  # fmt: skip
    for dataset in find(remote, association, keys):
        yield Listed(series_uid, _first(dataset, "SOPInstanceUID"))


def _first(dataset: Dataset, keyword: str) -> str:
    return next(iter(texts(dataset, keyword)), "")
