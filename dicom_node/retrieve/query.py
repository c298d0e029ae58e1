"""What a PACS says it holds, asked by C-FIND level by level (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.multival import MultiValue

from dicom_node.core.errors import NotFound
from dicom_node.dimse.find_scu import find
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.retrieve_scu import RetrieveAssociation
from dicom_node.retrieve.sink import WantedStudy
from dicom_node.retrieve.source import FoundStudy


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """Return the values of an element as texts without padding; none when it is missing or empty."""
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue | list) else [value]
    return [text for text in (str(one).strip() for one in values if one is not None) if text]


def number(dataset: Dataset, keyword: str) -> int | None:
    """Return an integer string, `None` when the PACS does not tell or tells nonsense."""
    found = texts(dataset, keyword)
    return int(found[0]) if found and found[0].isdecimal() else None


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
