"""The ImagingStudy that the node has made: it grows with every result, and says which of its objects hold no more.

One that a PACS or RIS has made is theirs: it is referred to and left as it is. In the node's own nothing is dropped:
the objects lie in the archive, another node or the hospital may have entered some of them, and their readers must
learn that a later result replaced them. So the title of a replaced or withdrawn object says that, before what it said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from dicom_node.fhir.builders.identifiers import JOB_SYSTEM
from dicom_node.fhir.builders.resources.provenance import former_reports, replaced_uids
from dicom_node.fhir.client.answers import NOT_FOR_US, ConditionNotMet
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.reading import child, children, text, without_version
from dicom_node.fhir.client.reconciliation import is_of_same_patient, jobs_of, search_of, update_of
from dicom_node.fhir.client.searching import find
from dicom_node.fhir.client.writing import put
from dicom_node.fhir.json_types import Json, without_empty

REPLACED = "Replaced by a later result"
WITHDRAWN = "Withdrawn"
#: What an ImagingStudy may say while it is in use (R4 imagingstudy-status).
IN_USE = frozenset({"registered", "available", "unknown"})
#: What belongs to a patient, and goes when the study is another's.
_OF_PATIENT = ("subject", "basedOn", "encounter")
#: Looks, when the ImagingStudy changes before it is written.
_MOST_LOOKS = 3


def list_in_study(exchange: Exchange, bundle: Json) -> str:
    """Enter the series of a delivered report into the node's ImagingStudy, and mark what it replaces.

    Returns a remark for the operator where the EHR does not let the node, for the ImagingStudy stands beside the
    report and must not cost it; else nothing. Raises `DeliveryDeferred`.
    """
    entry = _entry_of(bundle, "ImagingStudy")
    if not entry:
        return ""
    provenance = child(_entry_of(bundle, "Provenance"), "resource")
    replaced = replaced_uids(provenance.get("entity", []))
    jobs = former_reports(provenance)[0]
    try:
        for _ in range(_MOST_LOOKS):
            if _is_listed(exchange, entry, replaced, jobs):
                return ""
    except NOT_FOR_US:
        return "the EHR does not let the node complete the list of objects in its ImagingStudy"
    return "the list of objects in the ImagingStudy is not complete: somebody changes it while the node writes"


def _entry_of(bundle: Json, kind: str) -> Json:
    return next((one for one in bundle["entry"] if one["resource"]["resourceType"] == kind), {})


def _is_listed(exchange: Exchange, entry: Json, replaced: Collection[str], jobs: Collection[str]) -> bool:
    """Write what is missing, if anything; `False` when the ImagingStudy changed meanwhile."""
    there = _own_study(exchange, entry, jobs)
    if there is None:
        return True
    whole = marked(followed(united(there, entry["resource"]), entry["resource"]), replaced, REPLACED)
    if whole == there:
        return True
    try:
        put(exchange, {"resource": without_version(whole), "request": update_of(there)})
    except ConditionNotMet:
        return False
    return True


def _own_study(exchange: Exchange, entry: Json, jobs: Collection[str]) -> Json | None:
    """Return the ImagingStudy in use that a node has made for this study and patient; of several always the same.

    One that a job of `jobs` has made, which this result replaces, is the study's too if it names another patient: the
    images were corrected.
    """
    found = find(exchange, "ImagingStudy", search_of(entry))
    own = [one for one in found if jobs_of(one) and text(one, "status") in IN_USE]
    usable = [one for one in own if is_of_same_patient(one, entry["resource"]) or set(jobs) & set(jobs_of(one))]
    return min(usable, key=lambda one: (not is_of_same_patient(one, entry["resource"]), one["id"]), default=None)


# --- what it says ----------------------------------------------------------------------------------------------------


def united(there: Json, ours: Json) -> Json:
    """Return the server's ImagingStudy with the series and instances, modalities and jobs of ours that it lacks.

    What the server says of an instance stands, but for the title of an object that the node has made.
    """
    jobs = [one for one in children(ours, "identifier") if text(one, "system") == JOB_SYSTEM]
    return without_empty(
        {
            **there,
            "identifier": _joined(children(there, "identifier"), jobs, "value", lambda old, _: old),
            "modality": _joined(children(there, "modality"), children(ours, "modality"), "code", lambda old, _: old),
            "series": _joined(children(there, "series"), children(ours, "series"), "uid", _joined_series),
        }
    )


def followed(study: Json, ours: Json) -> Json:
    """Return the ImagingStudy under the patient of ours; the order and encounter of another patient do not stay."""
    if is_of_same_patient(study, ours):
        return study
    moved = {key: value for key, value in study.items() if key not in _OF_PATIENT}
    return moved | {key: ours[key] for key in _OF_PATIENT if key in ours}


def marked(study: Json, uids: Collection[str], mark: str) -> Json:
    """Return the ImagingStudy with `mark` before the titles of these instances, where it does not stand yet."""

    def instance(one: Json) -> Json:
        title = text(one, "title")
        if text(one, "uid") not in uids or title.startswith(mark):
            return one
        return {**one, "title": f"{mark}: {title}" if title else mark}

    def each_of(series: Json) -> Json:
        return without_empty({**series, "instance": [instance(one) for one in children(series, "instance")]})

    return without_empty({**study, "series": [each_of(one) for one in children(study, "series")]})


def _joined_series(there: Json, ours: Json) -> Json:
    instances = _joined(children(there, "instance"), children(ours, "instance"), "uid", _joined_instance)
    return without_empty({**ours, **there, "instance": instances})


def _joined_instance(there: Json, ours: Json) -> Json:
    title = {"title": ours["title"]} if text(ours, "title") else {}
    return {**ours, **there, **title}


def _joined(there: Iterable[Json], ours: Iterable[Json], key: str, join: Callable[[Json, Json], Json]) -> list[Json]:
    """Return what is there, joined with what of ours has the same key, then the rest of ours."""
    rest = {text(one, key): one for one in ours}
    kept = [join(one, rest.pop(text(one, key))) if text(one, key) in rest else one for one in there]
    return [*kept, *rest.values()]
