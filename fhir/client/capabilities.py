"""What a server does: what its CapabilityStatement says, and what it was found not to do although it says so.

Capabilities are named ``transaction``, ``If-None-Exist``, ``POST _search``, and ``DiagnosticReport.create``. Statements
are short on many servers and wrong on some, so what one is silent on is tried, and what fails as unsupported is
remembered like what it says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from dicom_node.core.errors import CredentialsRefused, DeliveryRefused
from dicom_node.fhir.client.exchange import CONDITIONAL_CREATE, TRANSACTION, Exchange
from dicom_node.fhir.client.reading import children, text
from dicom_node.fhir.json_types import Json

#: What the node would create. Others that a statement names are of no interest.
CREATED = ("DiagnosticReport", "Observation", "DocumentReference", "Device", "Endpoint", "ImagingStudy", "Provenance")
_WHOLE_SERVER = "server"
#: What a statement says of a type of resource beside its interactions, each as true or false.
_FLAGS = ("conditionalCreate", "updateCreate")
_DENIED = "no "


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCapabilities:
    """What may be counted on.

    `offered` has by type of resource, and for the whole server, the interactions and flags of the statement; `None`: it
    shows none. `refused` are the names of what it was found not to do.
    """

    offered: Mapping[str, Collection[str]] | None = None
    refused: frozenset[str] = frozenset()

    @property
    def takes_transactions(self) -> bool:
        """Tell whether to send a transaction with the conditional creates that the bundle relies on."""
        if TRANSACTION in self.refused or not self.creates_conditionally:
            return False
        return self.offered is None or TRANSACTION in self.offered.get(_WHOLE_SERVER, ())

    @property
    def creates_conditionally(self) -> bool:
        """Tell whether nothing says that it refuses If-None-Exist; silence is common and means nothing."""
        denied = any(f"{_DENIED}conditionalCreate" in said for said in (self.offered or {}).values())
        return CONDITIONAL_CREATE not in self.refused and not denied

    @property
    def takes_documents_only(self) -> bool:
        """Tell whether it takes a DocumentReference where it takes no DiagnosticReport."""
        return not self.creates("DiagnosticReport") and self.creates("DocumentReference")

    def creates(self, kind: str) -> bool:
        """Tell whether there is no reason to think that it takes no new resource of this type.

        A list of types counts where it has one in which a report can go: the site has named the server for reports.
        """
        if f"{kind}.create" in self.refused:
            return False
        return self._offers(kind) or not any(self._offers(one) for one in _REPORT)

    def _offers(self, kind: str) -> bool:
        said = (self.offered or {}).get(kind)
        if said is None:
            return False
        interactions = [one for one in said if one not in _FLAGS and not one.startswith(_DENIED)]
        return not interactions or "create" in interactions or self.creates_by_update(kind)

    def creates_by_update(self, kind: str) -> bool:
        """Tell whether the node may choose the id of a new resource (R4 CapabilityStatement: updateCreate)."""
        return "updateCreate" in (self.offered or {}).get(kind, ())

    def in_words(self) -> list[str]:
        """Return for people how reports go to this server, and what was learned of it."""
        way = "as a document" if self.takes_documents_only else "in one transaction"
        if way != "as a document" and not self.takes_transactions:
            way = "one by one"
        lacking = [kind for kind in CREATED if kind not in _REPORT and not self.creates(kind)]
        chosen = [kind for kind in CREATED if self.creates_by_update(kind)]
        return [
            f"reports go {way}",
            *([f"it takes no {', '.join(lacking)}"] if lacking else []),
            *([] if self.creates_conditionally else ["it creates nothing on a condition (If-None-Exist)"]),
            *(["the node may choose ids there (updateCreate)"] if chosen else []),
            *([f"found not to do: {', '.join(sorted(self.refused))}"] if self.refused else []),
        ]


_REPORT = ("DiagnosticReport", "DocumentReference")


class ServerMemory(Protocol):
    """Keeps what is known of one server."""

    def recall(self) -> ServerCapabilities:
        """Return what is known and not too old; of a server never asked, nothing."""
        ...

    def remember(self, offered: Mapping[str, Collection[str]]) -> None:
        """Keep what its statement says."""
        ...

    def note_refusal(self, what: str) -> None:
        """Keep that it was found not to do something."""
        ...


@dataclass(slots=True)
class BriefMemory:
    """Remembers as long as it lives."""

    _known: ServerCapabilities = field(default_factory=ServerCapabilities)

    def recall(self) -> ServerCapabilities:
        """Return what is known."""
        return self._known

    def remember(self, offered: Mapping[str, Collection[str]]) -> None:
        """Keep what its statement says."""
        self._known = replace(self._known, offered=offered)

    def note_refusal(self, what: str) -> None:
        """Keep that it was found not to do something."""
        self._known = replace(self._known, refused=self._known.refused | {what})


def known_capabilities(exchange: Exchange, memory: ServerMemory) -> ServerCapabilities:
    """Return what is known of the server; asks it where nothing is, and one that will not say each time.

    Raises `DeliveryRefused` when it speaks another version of FHIR than R4.
    """
    known = memory.recall()
    if known.offered is not None:
        return known
    offered = _read_statement(exchange)
    if offered is not None:
        memory.remember(offered)
    return replace(known, offered=offered)


def _read_statement(exchange: Exchange) -> Mapping[str, Collection[str]] | None:
    asked = "the request for its CapabilityStatement"
    try:
        statement = exchange.json(exchange.get("metadata", asked), asked)
    except (DeliveryRefused, CredentialsRefused):
        return None
    said = text(statement, "fhirVersion") or "4.0.1"
    if not said.startswith("4.0"):
        named = said if re.fullmatch(r"[0-9.]{1,12}", said) else "of an unknown version"
        raise DeliveryRefused(
            f"The FHIR server speaks FHIR {named}; reports are written in R4 (4.0.1). "
            "Set url of the destination to the server's R4 address."
        )
    return offered_by(statement)


def offered_by(statement: Json) -> dict[str, list[str]]:
    """Return what a CapabilityStatement offers the node: interactions and flags by type, and for the whole server."""
    rest = [one for one in children(statement, "rest") if text(one, "mode") in {"server", ""}]
    codes = {text(code, "code") for one in rest for code in children(one, "interaction")}
    listed = [one for server in rest for one in children(server, "resource")]
    kinds = {text(one, "type"): sorted(_said_of(one)) for one in listed if text(one, "type") in CREATED}
    return {_WHOLE_SERVER: sorted(codes & {TRANSACTION}), **kinds}


def _said_of(resource: Json) -> Iterator[str]:
    yield from {text(one, "code") for one in children(resource, "interaction")} & {"create", "update", "read"}
    for flag in _FLAGS:
        if isinstance(resource.get(flag), bool):
            yield flag if resource[flag] else f"{_DENIED}{flag}"
