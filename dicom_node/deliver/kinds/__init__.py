"""The kinds of destination there are: one module each, and one line each in the table below.

The recipe for a further kind is in docs/how-to/extend.md. Whatever else must know a kind asks the destination itself.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dicom_node.config.settings import Settings
from dicom_node.deliver.kinds.dicom import DicomDestination
from dicom_node.deliver.kinds.dicomweb import DicomWebDestination
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.folder import FolderDestination
from dicom_node.deliver.kinds.hl7 import Hl7Destination
from dicom_node.deliver.kinds.kind import DestinationKind
from dicom_node.deliver.kinds.webhook import WebhookDestination

#: The table.
AnyDestination = Annotated[
    DicomDestination
    | DicomWebDestination
    | FhirDestination
    | FolderDestination
    | Hl7Destination
    | WebhookDestination,
    Field(discriminator="kind"),
]  # fmt: skip


def destinations_of(settings: Settings) -> tuple[DestinationKind, ...]:
    """Return the destinations of settings that were read with their kinds.

    Raises `TypeError` where they were made without: every way to a running node reads them with `load_settings`.
    """
    for one in settings.destination:
        if not isinstance(one, DestinationKind):
            raise TypeError(f"destination {one.name!r} has no kind; read settings as `SiteSettings`")
    return tuple(one for one in settings.destination if isinstance(one, DestinationKind))
