"""Source kind ``dimse``: a PACS asked by C-FIND, and by C-GET or C-MOVE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dicom_node.config.peers import DicomPeer
from dicom_node.config.section import AeTitle
from dicom_node.retrieve.kinds.kind import SourceKind

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.retrieve.source import Source


class DimseSourceSettings(DicomPeer, SourceKind):
    """A PACS, by C-FIND and C-GET or C-MOVE."""

    kind: Literal["dimse"] = Field(description="How studies are found and fetched there.")
    retrieve: Literal["get", "move"] = Field(
        "get", description="`get` fetches on the same association; `move` has the PACS send to the node's port."
    )
    move_destination: AeTitle | None = Field(
        None, description="For `move`: AE title the PACS sends to; default: `node.ae_title`."
    )

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.host

    def source(self, settings: Settings) -> Source:
        """Return a query and retrieve user."""
        from dicom_node.dimse.negotiation import Remote, tls_of  # noqa: PLC0415 - settings must load fast
        from dicom_node.retrieve.dimse import DimseSource  # noqa: PLC0415

        own_ae_title, tls = settings.node.ae_title, tls_of(self, settings.dicom_tls)
        remote = Remote(self.host, self.port, self.ae_title, own_ae_title, self.timeout_s, tls)
        destination = (self.move_destination or own_ae_title) if self.retrieve == "move" else ""
        return DimseSource(self.name, remote, destination)
