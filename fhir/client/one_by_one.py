"""For servers without transactions: the entries of the bundle one at a time, in order, each found before it is written.

Not all or nothing: a failure in between leaves the first entries. Sending the bundle again finds them and goes on.
"""

from __future__ import annotations

import re
from typing import Any

from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.client.exchange import Exchange
from dicom_node.fhir.client.searching import find
from dicom_node.fhir.json_types import Json


def send_one_by_one(exchange: Exchange, bundle: Json) -> tuple[str, ...]:
    """Write every entry and return where each lies. Raises `DeliveryDeferred` or `DeliveryRefused`."""
    places: dict[str, str] = {}
    for entry in bundle["entry"]:
        resource = _with_places(entry["resource"], places)
        places[entry["fullUrl"]] = _write(exchange, resource, entry["request"])
    return tuple(places.values())


def _write(exchange: Exchange, resource: Json, request: Json) -> str:
    kind = resource["resourceType"]
    path, _, condition = request["url"].partition("?")
    if "/" in path:
        exchange.send("PUT", path, resource, f"an update of {kind}")
        return str(path)
    query = condition or request["ifNoneExist"]
    found = _at_most_one(exchange, kind, query)
    if found is None:
        return _created(exchange, resource, query)
    if request["method"] == "PUT":
        exchange.send("PUT", f"{kind}/{found}", {**resource, "id": found}, f"an update of {kind}")
    return f"{kind}/{found}"


def _at_most_one(exchange: Exchange, kind: str, query: str) -> str | None:
    found = find(exchange, kind, query)
    if len(found) > 1:
        raise DeliveryRefused(
            f"The FHIR server has {len(found)} resources of type {kind} with one identifier ({query}); "
            "remove all but one, then retry the delivery."
        )
    return str(found[0]["id"]) if found else None


def _created(exchange: Exchange, resource: Json, query: str) -> str:
    """Create it; the condition goes along as well, for another sender may have been faster."""
    kind = resource["resourceType"]
    asked = f"the creation of {kind}"
    answer = exchange.send("POST", kind, resource, asked, query)
    location = re.search(rf"({kind}/[A-Za-z0-9\-.]+)", answer.headers.get("Location", ""))
    return location.group(1) if location else f"{kind}/{exchange.json(answer, asked)['id']}"


def _with_places(node: Any, places: dict[str, str]) -> Any:
    """Put the server's own references in the place of those inside the bundle."""
    if isinstance(node, dict):
        return {
            key: places.get(value, value) if key == "reference" else _with_places(value, places)
            for key, value in node.items()
        }
    return [_with_places(item, places) for item in node] if isinstance(node, list) else node
