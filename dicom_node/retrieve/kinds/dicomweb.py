"""Source kind ``dicomweb``: a PACS asked by QIDO-RS and WADO-RS."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dicom_node.config.peers import TokenWebPeer
from dicom_node.retrieve.kinds.kind import SourceKind

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.retrieve.source import Source


class DicomWebSourceSettings(TokenWebPeer, SourceKind):
    """A PACS, by QIDO-RS and WADO-RS. `url` is where `/studies` begins."""

    kind: Literal["dicomweb"] = Field(description="How studies are found and fetched there.")

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.url

    def source(self, settings: Settings) -> Source:  # noqa: ARG002 - nobody is called by an AE title
        """Return a DICOMweb user."""
        from dicom_node.core.errors import SourceUnavailable  # noqa: PLC0415 - settings must load fast
        from dicom_node.deliver.connections.web import web_client  # noqa: PLC0415
        from dicom_node.retrieve.dicomweb import DicomWebSource  # noqa: PLC0415

        return DicomWebSource(
            self.name, self.url.rstrip("/"), partial(web_client, self, self.timeout_s, SourceUnavailable)
        )
