"""Source kind ``orthanc``: an Orthanc asked through its REST interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dicom_node.config.peers import TokenWebPeer
from dicom_node.retrieve.kinds.kind import SourceKind

if TYPE_CHECKING:
    from pyorthanc import Orthanc

    from dicom_node.config.settings import Settings
    from dicom_node.retrieve.source import Source


class OrthancSourceSettings(TokenWebPeer, SourceKind):
    """An Orthanc, by its REST interface. `url` is the address of that."""

    kind: Literal["orthanc"] = Field(description="How studies are found and fetched there.")

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.url

    def source(self, settings: Settings) -> Source:  # noqa: ARG002 - nobody is called by an AE title
        """Return a user of Orthanc's REST interface."""
        from dicom_node.core.errors import SourceUnavailable  # noqa: PLC0415 - settings must load fast
        from dicom_node.deliver.connections.web import authentication, verification  # noqa: PLC0415
        from dicom_node.retrieve.orthanc import OrthancSource  # noqa: PLC0415

        url, auth = self.url.rstrip("/"), authentication(self)

        def open_client() -> Orthanc:
            from pyorthanc import Orthanc  # noqa: PLC0415

            verify = verification(self, SourceUnavailable)
            client = Orthanc(url, timeout=self.timeout_s, verify=verify, follow_redirects=False)
            client.auth = auth
            return client

        return OrthancSource(self.name, url, open_client)
