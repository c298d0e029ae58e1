"""The kinds of source there are: one module each, and one line each in the table below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from dicom_node.retrieve.kinds.dicomweb import DicomWebSourceSettings
from dicom_node.retrieve.kinds.dimse import DimseSourceSettings
from dicom_node.retrieve.kinds.kind import SourceKind
from dicom_node.retrieve.kinds.orthanc import OrthancSourceSettings

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.retrieve.source import Source

#: The table.
AnySource = Annotated[
    DimseSourceSettings
    | DicomWebSourceSettings
    | OrthancSourceSettings,
    Field(discriminator="kind"),
]  # fmt: skip


def sources_of(settings: Settings) -> tuple[SourceKind, ...]:
    """Return the sources of settings that were read with their kinds; raises `TypeError` where they were not."""
    for one in settings.source:
        if not isinstance(one, SourceKind):
            raise TypeError(f"source {one.name!r} has no kind; read settings as `SiteSettings`")
    return tuple(one for one in settings.source if isinstance(one, SourceKind))


def make_sources(settings: Settings) -> Mapping[str, Source]:
    """Return every configured source by name; nothing is opened yet."""
    return {one.name: one.source(settings) for one in sources_of(settings)}
