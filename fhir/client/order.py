"""The order that a report answers: the EHR's own ServiceRequest where exactly one is the study's, never created.

An accession number is unique only within its issuer, and may be mistyped. So an order counts when it has the number of
that issuer, is about the report's own Patient, and is the only one. Else the report names the order by its number.
"""

from __future__ import annotations

import re

from dicom_node.fhir.client.answers import NOT_FOR_US
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.reading import child, children, place, text
from dicom_node.fhir.client.reconciliation import report_entry
from dicom_node.fhir.client.searching import find_by_number
from dicom_node.fhir.json_types import Json

_VOID = frozenset({"revoked", "entered-in-error"})
_ENCOUNTER = re.compile(r"(?:^|/)(Encounter/[A-Za-z0-9\-.]{1,64})(?:/_history/.*)?$")


def with_order(exchange: Exchange, bundle: Json, patient: str) -> Json:
    """Return the bundle based on the EHR's order, with the encounter of that; as it is where there is not exactly one.

    `patient` is ``Patient/id``. An EHR that does not show its orders gets the report all the same. Raises
    `DeliveryDeferred`.
    """
    number = child(next(iter(children(report_entry(bundle)["resource"], "basedOn")), {}), "identifier")
    if not text(number, "system") or not text(number, "value"):
        return bundle
    try:
        found = find_by_number(exchange, "ServiceRequest", text(number, "system"), text(number, "value"))
    except NOT_FOR_US:
        return bundle
    orders = [one for one in found.resources if _is_of_study(one, number, patient)]
    if len(orders) != 1 or not found.are_all:
        return bundle
    based_on = [{"type": "ServiceRequest", "reference": place(orders[0]), "identifier": number}]
    visit = _ENCOUNTER.search(text(child(orders[0], "encounter"), "reference"))
    encounter = {"encounter": {"reference": visit.group(1)}} if visit else {}
    return {**bundle, "entry": [_based_on(entry, based_on, encounter) for entry in bundle["entry"]]}


def _is_of_study(order: Json, number: Json, patient: str) -> bool:
    """Tell an order of this patient with this accession number; a number of another type (a placer's) is none."""
    wanted = (text(number, "system"), text(number, "value"))
    carried = [one for one in children(order, "identifier") if (text(one, "system"), text(one, "value")) == wanted]
    is_accession = any(_types(one) <= {"ACSN"} for one in carried)
    is_theirs = f"/{text(child(order, 'subject'), 'reference')}".endswith(f"/{patient}")
    return is_accession and is_theirs and text(order, "status") not in _VOID


def _types(identifier: Json) -> set[str]:
    return {text(one, "code") for one in children(child(identifier, "type"), "coding")}


def _based_on(entry: Json, based_on: list[Json], encounter: Json) -> Json:
    resource = entry["resource"]
    if "basedOn" not in resource:
        return entry
    return {**entry, "resource": {**resource, "basedOn": based_on, **encounter}}
