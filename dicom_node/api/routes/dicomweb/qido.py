"""QIDO-RS (PS3.18 10.6): which studies, series and instances the node has.

The index knows UIDs, dates, numbers and modalities; patients' names are in the stored objects alone, and read from
them at the moment somebody asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from dicom_node.api.access import Reads
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.dicomweb.asking import ROOT, Asking, CurrentAsking, Looks, Searches, told_as_problems
from dicom_node.api.dicomweb.matching import HeaderJson, Search, matches, search_of
from dicom_node.api.parts import InstanceUid, StudyUid
from dicom_node.index.views.kept_objects import KeptStudies, ReadableObject, find_studies, objects_of
from dicom_node.viewing.described import Described

MEDIA_TYPE = "application/dicom+json"
router = APIRouter(
    prefix=ROOT,
    tags=["DICOMweb"],
    dependencies=[Reads],
    include_in_schema=False,  # PS3.18 describes it, and the conformance statement says what of it is here
    responses=described(400, 401, 403, 404, 406, 422, 429, 503),
)
#: Studies that are looked up at a time.
_PAGE = 50
#: Headers that one search may look into.
_MOST_HEADERS = 2000
_TOO_WIDE = "Too many objects would have to be looked into. Name a study, a patient, an accession number or a date."

#: What answers hold (PS3.18 10.6.3.3), besides what is asked for by includefield.
_STUDY = (
    "00080005", "00080020", "00080030", "00080050", "00080090", "00080201", "00081030", "00100010", "00100020",
    "00100030", "00100040", "0020000D", "00200010",
)  # fmt: skip
_SERIES = (
    "00080005", "00080060", "00080201", "0008103E", "0020000E", "00200011", "00400244", "00400245", "00400275",
)  # fmt: skip
_INSTANCE = (
    "00080005", "00080016", "00080018", "00080201", "0020000D", "0020000E", "00200013", "00280008", "00280010",
    "00280011", "00280100",
)  # fmt: skip
_BULK = "BulkDataURI"


@dataclass(frozen=True, slots=True)
class _Level:
    """What stands for an answer of this level, and what it holds; `name` is that of PS3.18."""

    name: str
    tags: tuple[str, ...]


STUDIES = _Level("studies", _STUDY)
SERIES = _Level("series", (*_SERIES, "0020000D"))
INSTANCES = _Level("instances", _INSTANCE)


@dataclass(frozen=True, slots=True)
class _Row:
    """One candidate for an answer: all its objects, of which one speaks for it."""

    level: _Level
    objects: Sequence[ReadableObject]

    @property
    def spokesman(self) -> ReadableObject:
        return next((one for one in self.objects if one.is_received), self.objects[0])


@router.get("/studies", dependencies=[Searches])
def search_studies(asking: CurrentAsking) -> Response:
    """Search for studies."""
    return _answer(asking, STUDIES)


@router.get("/series", dependencies=[Searches])
def search_all_series(asking: CurrentAsking) -> Response:
    """Search for series of all studies."""
    return _answer(asking, _with_study(SERIES))


@router.get("/instances", dependencies=[Searches])
def search_all_instances(asking: CurrentAsking) -> Response:
    """Search for instances of all studies."""
    return _answer(asking, _with_study(INSTANCES))


@router.get("/studies/{uid}/series", dependencies=[Looks])
def search_series(asking: CurrentAsking, uid: StudyUid) -> Response:
    """Search for series of a study."""
    return _answer(asking, SERIES, {"StudyInstanceUID": uid})


@router.get("/studies/{uid}/instances", dependencies=[Looks])
def search_instances(asking: CurrentAsking, uid: StudyUid) -> Response:
    """Search for instances of a study."""
    level = _Level("instances", (*_INSTANCE, *_SERIES))
    return _answer(asking, level, {"StudyInstanceUID": uid})


@router.get("/studies/{uid}/series/{series}/instances", dependencies=[Looks])
def search_instances_of_series(asking: CurrentAsking, uid: StudyUid, series: InstanceUid) -> Response:
    """Search for instances of a series."""
    return _answer(asking, INSTANCES, {"StudyInstanceUID": uid, "SeriesInstanceUID": series})


def _with_study(level: _Level) -> _Level:
    return _Level(level.name, tuple(dict.fromkeys((*level.tags, *_SERIES, *_STUDY))))


def _answer(asking: Asking, level: _Level, named: dict[str, str] | None = None) -> Response:
    if not any(one.takes(MEDIA_TYPE) or one.takes("application/json") for one in asking.accepted):
        raise ProblemError(406, f"The answer is {MEDIA_TYPE}; accept that.")
    search = search_of(asking.request.query_params.multi_items(), named)
    with told_as_problems():
        found = list(islice(_found(asking, level, search), search.limit + 1))
    remarks = [*search.remarks]
    if len(found) > search.limit:
        remarks.append("There are more results. Ask for the next with offset.")
    warning = {"Warning": ", ".join(f'299 {asking.root} "{one}"' for one in remarks)} if remarks else {}
    headers = {"Cache-Control": "no-store", **warning}
    told = [_told(row, header, search, asking.root) for row, header in found[: search.limit]]
    if not told:
        return Response(status_code=204, headers=headers)
    return Response(json.dumps(told, ensure_ascii=False), media_type=MEDIA_TYPE, headers=headers)


def _found(asking: Asking, level: _Level, search: Search) -> Iterator[tuple[_Row, HeaderJson]]:
    """Yield the rows behind `offset` that match, with their headers. Raises `ProblemError` 400: too wide a search."""
    to_skip = search.offset
    looked_at = 0
    for page in _pages(asking, level, search.studies):
        rows = page
        if not search.matches:  # no header needs to be read of what is skipped
            rows, to_skip = page[to_skip:], max(0, to_skip - len(page))
        described_rows = asking.images.describe_all([asking.file(row.spokesman) for row in rows])
        for row, one in zip(rows, described_rows, strict=True):
            looked_at += 1
            if looked_at > _MOST_HEADERS and search.matches:
                raise ProblemError(400, _TOO_WIDE)
            header = json.loads(one.header) if isinstance(one, Described) else _named(row.spokesman)
            if not matches(header, search.matches):
                continue
            if search.matches and to_skip:
                to_skip -= 1
                continue
            yield row, header


def _pages(asking: Asking, level: _Level, wanted: KeptStudies) -> Iterator[list[_Row]]:
    offset = 0
    while True:
        with asking.parts.database.read() as connection:
            uids = find_studies(connection, wanted, asking.parts.search_keys, offset, _PAGE)
            objects = objects_of(connection, uids) if uids else {}
        yield [row for uid in uids if uid in objects for row in _rows(level, objects[uid], wanted)]
        offset += _PAGE
        if len(uids) < _PAGE:
            return


def _rows(level: _Level, objects: Sequence[ReadableObject], wanted: KeptStudies) -> Iterator[_Row]:
    if level.name == "studies":
        yield _Row(level, objects)
        return
    for series, group in groupby(objects, key=lambda one: one.series_instance_uid):
        if wanted.series_instance_uids and series not in wanted.series_instance_uids:
            continue
        mine = [
            one for one in group if not wanted.sop_instance_uids or one.sop_instance_uid in wanted.sop_instance_uids
        ]
        if level.name == "series" and mine:
            yield _Row(level, mine)
        elif level.name == "instances":
            yield from (_Row(level, [one]) for one in mine)


# --- answers ---------------------------------------------------------------------------------------------------------


def _named(one: ReadableObject) -> HeaderJson:
    """Return what the index knows of an object whose header cannot be read."""
    return {
        "0020000D": _ui(one.study_instance_uid),
        "0020000E": _ui(one.series_instance_uid),
        "00080016": _ui(one.sop_class_uid),
        "00080018": _ui(one.sop_instance_uid),
    }


def _told(row: _Row, header: HeaderJson, search: Search, root: str) -> dict[str, Any]:
    wanted = set(row.level.tags) | search.included
    told = {
        tag: element for tag, element in header.items()
        if (search.everything or tag in wanted) and _BULK not in element
    }  # fmt: skip
    told |= {tag: {"vr": "UI", "Value": [value]} for tag, value in _uids(row).items()}
    told |= _counted(row)
    told["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    told["00081190"] = {"vr": "UR", "Value": [_retrieve_url(row, root)]}
    return dict(sorted(told.items()))


def _uids(row: _Row) -> dict[str, str]:
    """As the index has them; a study's answer names no series of it."""
    one = row.spokesman
    uids = {"0020000D": one.study_instance_uid}
    if row.level.name != "studies":
        uids["0020000E"] = one.series_instance_uid
    if row.level.name == "instances":
        uids |= {"00080016": one.sop_class_uid, "00080018": one.sop_instance_uid}
    return uids


def _counted(row: _Row) -> dict[str, Any]:
    if row.level.name == "instances":
        return {}
    if row.level.name == "series":
        return {"00201209": {"vr": "IS", "Value": [len(row.objects)]}}
    return {
        "00080061": {"vr": "CS", "Value": sorted({one.modality for one in row.objects} - {""})},
        "00201206": {"vr": "IS", "Value": [len({one.series_instance_uid for one in row.objects})]},
        "00201208": {"vr": "IS", "Value": [len(row.objects)]},
    }


def _retrieve_url(row: _Row, root: str) -> str:
    one = row.spokesman
    url = f"{root}/studies/{one.study_instance_uid}"
    if row.level.name != "studies":
        url += f"/series/{one.series_instance_uid}"
    return f"{url}/instances/{one.sop_instance_uid}" if row.level.name == "instances" else url


def _ui(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}
