"""Destination kind ``dicomweb``: a PACS that takes objects by STOW-RS."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from dicom_node.config.peers import SmartWebPeer
from dicom_node.core.outputs.capability_match import WantedOutputs
from dicom_node.deliver.kinds.kind import Answer, ArchiveKind, Caller, IdentityQuery, ProofQuestions

if TYPE_CHECKING:
    from dicom_node.deliver.outgoing import Sender


class DicomWebDestination(SmartWebPeer, ArchiveKind):
    """A PACS, by STOW-RS. `url` is where `/studies` begins."""

    kind: Literal["dicomweb"] = Field(description="How results get there.")
    can_prove: ClassVar[frozenset[str]] = frozenset({"query"})

    @property
    def address(self) -> str:
        """Whom the memory of what it takes is about."""
        return self.url[:512]

    def sender(self, caller: Caller) -> Sender:
        """Return a STOW-RS user."""
        from dicom_node.deliver.connections.web import authentication, verification  # noqa: PLC0415
        from dicom_node.deliver.senders.dicomweb import DicomWebSender  # noqa: PLC0415 - settings must load fast

        return DicomWebSender(self.url, authentication(self), caller.timeout_s, verification(self))

    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:
        """Ask for one study, and whose a study is; what it would take cannot be asked."""
        from dicom_node.deliver.checks import check_dicomweb, with_gets, with_identity  # noqa: PLC0415

        return with_identity(with_gets(check_dicomweb(self, caller.timeout_s), wanted), self.identity_query(caller))

    def identity_query(self, caller: Caller) -> IdentityQuery | None:
        """Return what asks by QIDO-RS."""
        if self.check_identity == "none":
            return None
        from dicom_node.deliver.queries import ask_web, series_at_web  # noqa: PLC0415

        return IdentityQuery(partial(ask_web, self, caller.timeout_s), partial(series_at_web, self, caller.timeout_s))

    def proof_questions(self, caller: Caller) -> ProofQuestions | None:
        """Return what asks by QIDO-RS."""
        if self.verify == "none":
            return None
        from dicom_node.deliver.queries import objects_at_web  # noqa: PLC0415

        return ProofQuestions(partial(objects_at_web, self, caller.timeout_s))

    def reach(self, caller: Caller) -> None:
        """Ask for one study."""
        from dicom_node.deliver.checks import ONE_STUDY, reach_web  # noqa: PLC0415

        reach_web(self, ONE_STUDY, caller.timeout_s)
