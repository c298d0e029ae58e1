"""Destination kind ``dicom``: a PACS that takes objects by C-STORE."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from dicom_node.config.peers import DicomPeer
from dicom_node.core.outputs.capability_match import WantedOutputs
from dicom_node.deliver.kinds.kind import Answer, ArchiveKind, Caller, IdentityQuery, ProofQuestions

if TYPE_CHECKING:
    from dicom_node.deliver.outgoing import Sender
    from dicom_node.dimse.negotiation import Remote
    from dicom_node.dimse.probe import AgreedContexts


class DicomDestination(DicomPeer, ArchiveKind):
    """A PACS, by C-STORE."""

    kind: Literal["dicom"] = Field(description="How results get there.")
    can_prove: ClassVar[frozenset[str]] = frozenset({"commitment", "query"})

    @property
    def address(self) -> str:
        """Whom the memory of what it takes is about."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    def sender(self, caller: Caller) -> Sender:
        """Return a C-STORE user."""
        from dicom_node.deliver.senders.dicom import DicomSender  # noqa: PLC0415 - settings must load fast

        return DicomSender(self._remote(caller))

    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:
        """Ask for every class of result, and whose a study is."""
        from dicom_node.deliver.checks import check_dicom, with_identity  # noqa: PLC0415

        return with_identity(check_dicom(self._remote(caller), wanted), self.identity_query(caller))

    def probe(self, caller: Caller) -> Callable[[], AgreedContexts]:
        """Return what proposes every class of result."""
        from dicom_node.dimse.probe import probe_peer  # noqa: PLC0415

        return partial(probe_peer, self._remote(caller))

    def identity_query(self, caller: Caller) -> IdentityQuery | None:
        """Return what asks by C-FIND."""
        if self.check_identity == "none":
            return None
        from dicom_node.deliver.queries import ask_dicom, series_at_dicom  # noqa: PLC0415

        return IdentityQuery(partial(ask_dicom, self._remote(caller)), partial(series_at_dicom, self._remote(caller)))

    def proof_questions(self, caller: Caller) -> ProofQuestions | None:
        """Return what asks by storage commitment, and by C-FIND."""
        if self.verify == "none":
            return None
        from dicom_node.deliver.queries import objects_at_dicom  # noqa: PLC0415
        from dicom_node.dimse.commitment_scu import request_commitment  # noqa: PLC0415

        remote = self._remote(caller)
        has = None if self.verify == "commitment" else partial(objects_at_dicom, remote)
        return ProofQuestions(has, None if self.verify == "query" else partial(request_commitment, remote))

    def reach(self, caller: Caller) -> None:
        """Ask for a C-ECHO."""
        from dicom_node.deliver.checks import reach_dicom  # noqa: PLC0415

        reach_dicom(self._remote(caller))

    def _remote(self, caller: Caller) -> Remote:
        from dicom_node.dimse.negotiation import Remote, tls_of  # noqa: PLC0415

        tls = tls_of(self, caller.tls)
        return Remote(self.host, self.port, self.ae_title, caller.ae_title, caller.timeout_s, tls)
