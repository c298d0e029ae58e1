"""A PACS that speaks DICOMweb: QIDO-RS tells what there is, WADO-RS brings it as it is stored (PS3.18 10.4, 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx

from dicom_node.core.errors import NotFound, RefusedObject, SourceRefused, SourceUnavailable
from dicom_node.retrieve.multipart import boundary_of, parts
from dicom_node.retrieve.sink import RetrieveSink, WantedStudy, fetch_singly, require_room, take_file
from dicom_node.retrieve.source import FoundStudy, StudyQuery
from dicom_node.retrieve.web import Web

#: `*` asks for the encoding as stored (PS3.18 8.7.3.5.2).
_ANY_ENCODING = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_PAGE = 1000
_MOST_PAGES = 1000
_INCLUDED = ["ModalitiesInStudy", "StudyDescription", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"]


@dataclass(frozen=True, slots=True)
class _Listed:
    """One object that QIDO-RS named."""

    series_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class DicomWebSource:
    """A PACS reached by DICOMweb; `base_url` is where ``/studies`` begins."""

    name: str
    base_url: str
    open_client: Callable[[], httpx.Client]

    @property
    def ae_title(self) -> str:
        """Its name; there is no AE title on the web."""
        return self.name[:16]

    @property
    def host(self) -> str:
        """Its host."""
        return httpx.URL(self.base_url).host

    def find_studies(self, query: StudyQuery, limit: int) -> list[FoundStudy]:
        """Ask by QIDO-RS. Raises `SourceUnavailable` and `SourceRefused`."""
        asked = {"PatientID": query.patient_id, "AccessionNumber": query.accession_number, "StudyDate": query.date}
        params: dict[str, object] = {key: value for key, value in asked.items() if value}
        params |= {"limit": limit, "includefield": _INCLUDED}
        with self.open_client() as client:
            return [_found(one) for one in _objects(self._web(client).json(self._url(), params=params))][:limit]

    def fetch(self, wanted: WantedStudy, arrivals: RetrieveSink) -> None:
        """Fetch the study at once, then one by one what did not come with it.

        Raises `NotFound`, `SourceUnavailable`, `SourceRefused`.
        """
        with self.open_client() as client:
            web = self._web(client)
            listed = self._listed(web, wanted)
            if not listed:
                told = f"{self.name} has no study {wanted.study_instance_uid}, or none of these series."
                raise NotFound(f"{told} Check the UIDs, and url of this source.")
            arrivals.counts.expect(len(listed))
            for url in self._whole(wanted):
                self._try_whole(web, url, arrivals)
            missing = [one for one in listed if not arrivals.has(one.sop_instance_uid)]
            fetch_singly(
                missing,
                lambda one: one.sop_instance_uid,
                lambda one: self._fetch_one(web, wanted.study_instance_uid, one, arrivals),
                arrivals.counts,
            )

    # --- addresses ---------------------------------------------------------------------------------------------

    def _url(self, *below: str) -> str:
        return "/".join([f"{self.base_url.rstrip('/')}/studies", *below])

    def _web(self, client: httpx.Client) -> Web:
        return Web(client, str(httpx.URL(self.base_url).copy_with(userinfo=b"", query=None)))

    def _whole(self, wanted: WantedStudy) -> list[str]:
        if not wanted.series_instance_uids:
            return [self._url(wanted.study_instance_uid)]
        return [self._url(wanted.study_instance_uid, "series", uid) for uid in wanted.series_instance_uids]

    # --- what there is -----------------------------------------------------------------------------------------

    def _listed(self, web: Web, wanted: WantedStudy) -> list[_Listed]:
        """Return what QIDO-RS names of the study, page by page."""
        found: dict[str, _Listed] = {}
        for page in range(_MOST_PAGES):
            params = {"limit": str(_PAGE), "offset": str(page * _PAGE)}
            try:
                objects = _objects(web.json(self._url(wanted.study_instance_uid, "instances"), params=params))
            except NotFound:
                break
            known = len(found)
            found |= {one.sop_instance_uid: one for one in map(_instance, objects) if one.sop_instance_uid}
            if len(objects) < _PAGE or len(found) == known:  # some servers know no offset
                break
        series = wanted.series_instance_uids
        return [one for one in found.values() if not series or one.series_instance_uid in series]

    # --- have it sent ------------------------------------------------------------------------------------------

    def _try_whole(self, web: Web, url: str, arrivals: RetrieveSink) -> None:
        """Take all that a study or series answers. What does not come so is asked for one by one afterwards."""
        with suppress(NotFound, SourceUnavailable, SourceRefused):
            for content in self._contents(web, url):
                with suppress(RefusedObject):
                    require_room(take_file(content, arrivals), self.name)

    def _fetch_one(self, web: Web, study_instance_uid: str, one: _Listed, arrivals: RetrieveSink) -> None:
        url = self._url(study_instance_uid, "series", one.series_instance_uid, "instances", one.sop_instance_uid)
        for content in self._contents(web, url):
            require_room(take_file(content, arrivals), self.name)
        if not arrivals.has(one.sop_instance_uid):
            arrivals.counts.refuse(one.sop_instance_uid, f"{self.name} names an object that it does not send.")

    def _contents(self, web: Web, url: str) -> Iterator[Iterator[bytes]]:
        with web.stream(url, _ANY_ENCODING) as response:
            content_type = response.headers.get("Content-Type", "")
            boundary = boundary_of(content_type)
            if not boundary:
                raise SourceRefused(f"{web.told} did not answer with multipart/related. Check url of this source.")
            for part in parts(web.pieces(response), boundary):
                yield part.content


def _objects(answer: Sequence[object]) -> list[Mapping[str, object]]:
    return [one for one in answer if isinstance(one, dict)]


def _instance(listed: Mapping[str, object]) -> _Listed:
    return _Listed(_text(listed, "0020000E"), _text(listed, "00080018"))


def _found(listed: Mapping[str, object]) -> FoundStudy:
    return FoundStudy(
        study_instance_uid=_text(listed, "0020000D"),
        accession_number=_text(listed, "00080050"),
        study_date=_text(listed, "00080020"),
        description=_text(listed, "00081030"),
        modalities=[str(one) for one in _values(listed, "00080061")],
        series=_number(listed, "00201206"),
        instances=_number(listed, "00201208"),
    )


def _values(listed: Mapping[str, object], tag: str) -> Sequence[object]:
    """Return the values of an element in the DICOM JSON model (PS3.18 F.2)."""
    element = listed.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [one for one in values if one is not None] if isinstance(values, list) else []


def _text(listed: Mapping[str, object], tag: str) -> str:
    return str(next(iter(_values(listed, tag)), "")).strip()


def _number(listed: Mapping[str, object], tag: str) -> int | None:
    text = _text(listed, tag)
    return int(text) if text.isdecimal() else None
