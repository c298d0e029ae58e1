"""Deliver report bundles to an EHR through the FHIR client."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryRefused,
    DestinationAway,
    ReportInvalid,
)
from dicom_node.deliver.outgoing import Outgoing, Sent, SentObject
from dicom_node.deliver.viewer_links import viewer_link
from dicom_node.fhir.adaptation import names_for_viewer, with_link
from dicom_node.fhir.builders.retraction import is_retraction
from dicom_node.fhir.client.client import Delivered, FhirClient, Fit
from dicom_node.fhir.client.reports import FoundReport, SoughtStudy
from dicom_node.fhir.own import own_bundle

#: After this many deferrals on end the server is taken to be away, and the rest is not tried one by one.
_DEFERRALS_ON_END = 2


@dataclass(frozen=True, slots=True)
class FhirSender:
    """Sends each stored bundle as its receiver wants it; the client finds the patient and makes repetition harmless.

    Connections live as long as one call of `send`.
    """

    base_url: str
    auth: httpx.Auth | None
    timeout_s: float
    fit: Fit = field(default_factory=Fit)
    viewer_url: str | None = None
    verify: ssl.SSLContext | bool = True

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Send in order; what only one bundle is refused for does not hold back the others."""
        on_end = 0
        with FhirClient(self.base_url, self.auth, self.timeout_s, self.fit, self.verify) as client:
            for position, item in enumerate(items):
                sent = self._send_one(client, item)
                yield sent
                on_end = on_end + 1 if isinstance(sent.error, DeliveryDeferred) else 0
                if on_end == _DEFERRALS_ON_END or isinstance(sent.error, DestinationAway | CredentialsRefused):
                    yield from (Sent(left.artifact.uid, sent.error, "") for left in items[position + 1 :])
                    return

    def has(self, objects: Sequence[SentObject]) -> Collection[str]:
        """Return the UIDs of the bundles whose report is found. Raises `DeliveryError` where it cannot be asked."""
        with FhirClient(self.base_url, self.auth, self.timeout_s, self.fit, self.verify) as client:
            return {one.uid for one in objects if client.has(_bundle(one.path))}

    def reports_on(self, study: SoughtStudy) -> list[FoundReport]:
        """Return what people have written of a study. Raises `DeliveryError` where it cannot be asked."""
        with FhirClient(self.base_url, self.auth, self.timeout_s, self.fit, self.verify) as client:
            return client.reports_on(study)

    def _send_one(self, client: FhirClient, item: Outgoing) -> Sent:
        try:
            bundle = _bundle(item.path)
            link = viewer_link(self.viewer_url, **names_for_viewer(bundle))
            delivered = client.send(with_link(bundle, link))
        except (DeliveryDeferred, DeliveryRefused) as error:
            return Sent(item.artifact.uid, error, "")
        return Sent(item.artifact.uid, None, _told(delivered, is_taken_back=is_retraction(bundle)))


def _told(delivered: Delivered, *, is_taken_back: bool) -> str:
    if delivered.superseded:
        return "left alone: a report of a later run is there already"
    count, remark = len(delivered.locations), f"; {delivered.remark}" if delivered.remark else ""
    what = f"{count} resource{'' if count == 1 else 's'}"
    return f"taken back: {what}" if is_taken_back else f"stored as {what}{remark}"


def _bundle(path: Path) -> dict[str, Any]:
    try:
        return own_bundle(path.read_bytes())
    except OSError as error:
        raise DeliveryRefused(f"The stored bundle {path.name} cannot be read: {error.strerror}.") from error
    except ReportInvalid as error:
        raise DeliveryRefused(
            f"The stored bundle {path.name} is not one that the node makes; it is not sent. {error} A model whose code "
            "does more than compute may be behind it: look at the code that dicom-node models verify lists."
        ) from error
