"""Look into what a server answered without trusting its shape: an element of another kind than R4's reads as absent.

Servers send `null`, numbers and texts where R4 has objects, lists and strings; none of that may end a delivery in an
exception that nobody counts.
"""

from __future__ import annotations

import re

from dicom_node.fhir.json_types import Json

#: The id of a resource (R4 datatypes: id); anything else a server calls one is not put into an address or a message.
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def child(node: object, key: str) -> Json:
    """Return the object under a key; empty when there is none."""
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, dict) else {}


def children(node: object, key: str) -> list[Json]:
    """Return the objects in the list under a key."""
    value = node.get(key) if isinstance(node, dict) else None
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(node: object, key: str) -> str:
    """Return the string under a key; empty when there is none."""
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, str) else ""


def identity(resource: object) -> str:
    """Return the id of a resource; empty when it has none that is one."""
    found = text(resource, "id")
    return found if _ID.fullmatch(found) else ""


def place(resource: object) -> str:
    """Return ``Type/id``; empty when the resource has no usable id."""
    found = identity(resource)
    return f"{text(resource, 'resourceType')}/{found}" if found else ""


def version(resource: object) -> str:
    """Return the version id of a resource; empty when the server keeps none."""
    found = text(child(resource, "meta"), "versionId")
    return found if _ID.fullmatch(found) else ""


def version_of_etag(etag: str) -> str:
    """Return the version id that an ETag ``W/"…"`` names (R4 http 3.1.0.5); empty for anything else."""
    found = re.fullmatch(r'(?:W/)?"([A-Za-z0-9\-.]{1,64})"', etag.strip())
    return found.group(1) if found else ""


class Etags:
    """How a server names versions in its ETags, and the ETag that it sent with each resource that was read.

    R4 has ``W/"version"`` (http 3.1.0.5). Some servers send or want other spellings, or tags that are no version ids;
    they are given back in If-Match as they came.
    """

    def __init__(self) -> None:
        self._pattern = 'W/"{}"'
        self._sent: dict[str, tuple[str, str]] = {}

    def note(self, resource: object, etag: str) -> None:
        """Remember the ETag that came with a resource; nothing when there was none."""
        if etag and place(resource):
            self._sent[place(resource)] = (version(resource), etag)
            self.learn(version(resource), etag)

    def learn(self, version_id: str, etag: str) -> None:
        """Remember how the server spells this version."""
        if version_id and version_id in etag:
            self._pattern = etag.replace(version_id, "{}", 1)

    def condition(self, where: str, version_id: str) -> str:
        """Return the If-Match for a version of what lies at ``Type/id``; empty where nothing names its version."""
        known, etag = self._sent.get(where, ("", ""))
        if etag and known == version_id:
            return etag
        return self._pattern.replace("{}", version_id) if version_id else ""


def without_version(resource: Json) -> Json:
    """Return a resource of the server ready to be written again: which version it is, the server says."""
    meta = {key: value for key, value in child(resource, "meta").items() if key not in {"versionId", "lastUpdated"}}
    return {key: value for key, value in resource.items() if key != "meta"} | ({"meta": meta} if meta else {})
