"""An Orthanc without DIMSE or DICOMweb, through its REST interface and pyorthanc: files come as they are stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
from pyorthanc import Orthanc

from dicom_node.core.errors import NotFound
from dicom_node.retrieve.sink import RetrieveSink, WantedStudy, fetch_singly, require_room, take_file
from dicom_node.retrieve.source import FoundStudy, StudyQuery
from dicom_node.retrieve.web import Web

_TAGS = ["ModalitiesInStudy", "NumberOfStudyRelatedInstances"]
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")


@dataclass(frozen=True, slots=True)
class OrthancSource:
    """An Orthanc; `url` is the address of its REST interface."""

    name: str
    url: str
    open_client: Callable[[], Orthanc]

    @property
    def ae_title(self) -> str:
        """Its name; its AE title is of no use here."""
        return self.name[:16]

    @property
    def host(self) -> str:
        """Its host."""
        return httpx.URL(self.url).host

    def find_studies(self, query: StudyQuery, limit: int) -> list[FoundStudy]:
        """Ask Orthanc's own search. Raises `SourceUnavailable` and `SourceRefused`."""
        asked = {"PatientID": query.patient_id, "AccessionNumber": query.accession_number, "StudyDate": query.date}
        body = {
            "Level": "Study", "Query": {key: value for key, value in asked.items() if value}, "Expand": True,
            "Limit": limit, "RequestedTags": _TAGS,
        }  # fmt: skip
        with self.open_client() as client:
            found = self._found_by(client, body)
        return [_found(one) for one in found if isinstance(one, dict)][:limit]

    def fetch(self, wanted: WantedStudy, arrivals: RetrieveSink) -> None:
        """Fetch the files one by one. Raises `NotFound`, `SourceUnavailable`, `SourceRefused`."""
        with self.open_client() as client:
            ids = self._instances(client, wanted)
            if not ids:
                raise NotFound(f"{self.name} has no study {wanted.study_instance_uid}, or none of these series.")
            arrivals.counts.expect(len(ids))
            fetch_singly(ids, str, lambda id_: self._fetch_one(client, id_, arrivals), arrivals.counts)

    def _instances(self, client: Orthanc, wanted: WantedStudy) -> list[str]:
        """Return Orthanc's ids of what is wanted; it matches upper and lower case alike, which UIDs have none of."""
        ids: dict[str, None] = {}
        for series in wanted.series_instance_uids or ("",):
            query = {"StudyInstanceUID": wanted.study_instance_uid} | ({"SeriesInstanceUID": series} if series else {})
            found = self._found_by(client, {"Level": "Instance", "Query": query, "Expand": False})
            ids |= dict.fromkeys(id_ for id_ in found if isinstance(id_, str) and _ID.fullmatch(id_))
        return list(ids)

    def _fetch_one(self, client: Orthanc, id_: str, arrivals: RetrieveSink) -> None:
        web = self._web(client)
        with web.stream(f"{client.url}/instances/{id_}/file", "application/dicom") as response:
            require_room(take_file(web.pieces(response), arrivals), self.name)

    def _found_by(self, client: Orthanc, body: Mapping[str, object]) -> list[object]:
        return self._web(client).json(f"{client.url}/tools/find", json=body)

    def _web(self, client: Orthanc) -> Web:
        return Web(client, f"{self.name} ({self.host})", "application/json")


def _found(expanded: Mapping[str, object]) -> FoundStudy:
    main, requested = _table(expanded, "MainDicomTags"), _table(expanded, "RequestedTags")
    series = expanded.get("Series")
    modalities = str(requested.get("ModalitiesInStudy", ""))
    counted = str(requested.get("NumberOfStudyRelatedInstances", ""))  # Orthanc before 1.11 does not tell
    return FoundStudy(
        study_instance_uid=str(main.get("StudyInstanceUID", "")),
        accession_number=str(main.get("AccessionNumber", "")).strip(),
        study_date=str(main.get("StudyDate", "")).strip(),
        description=str(main.get("StudyDescription", "")).strip(),
        modalities=[one for one in modalities.split("\\") if one],
        series=len(series) if isinstance(series, list) else None,
        instances=int(counted) if counted.isdecimal() else None,
    )


def _table(expanded: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = expanded.get(key)
    return value if isinstance(value, dict) else {}
