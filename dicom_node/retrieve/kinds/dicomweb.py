"""Source kind ``dicomweb``: a PACS asked by QIDO-RS and WADO-RS."""

from __future__ import annotations

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
        import httpx  # noqa: PLC0415 - settings must load fast

        from dicom_node.deliver.web import authentication  # noqa: PLC0415
        from dicom_node.retrieve.dicomweb import DicomWebSource  # noqa: PLC0415

        url, auth = self.url.rstrip("/"), authentication(self)
        return DicomWebSource(
            self.name, url, lambda: httpx.Client(auth=auth, timeout=self.timeout_s, follow_redirects=False)
        )
