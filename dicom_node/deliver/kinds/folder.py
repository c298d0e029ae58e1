"""Destination kind ``folder``: files, for other programs or for a look at what comes out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from dicom_node.config.outgoing import INCLUDE, PatientAttribute
from dicom_node.config.section import SitePath
from dicom_node.core.entities import MediaType
from dicom_node.core.outputs.capability_match import WantedOutputs
from dicom_node.deliver.kinds.kind import Answer, Caller, DicomObjectsKind, ProofQuestions

if TYPE_CHECKING:
    from dicom_node.deliver.outgoing import Sender


class FolderDestination(DicomObjectsKind):
    """A folder, which gets everything as files, each DICOM object with a JSON file that says what it is."""

    kind: Literal["folder"] = Field(description="How results get there.")
    can_prove: ClassVar[frozenset[str]] = frozenset({"query"})
    path: SitePath = Field(description="Where files are written.")
    include: tuple[PatientAttribute, ...] = Field((), description=INCLUDE)

    @property
    def takes(self) -> frozenset[str]:
        """Everything."""
        return frozenset({MediaType.ANY})

    def sender(self, caller: Caller) -> Sender:  # noqa: ARG002 - there is nobody to call
        """Return what writes files."""
        from dicom_node.deliver.senders.folder import FolderSender  # noqa: PLC0415 - settings must load fast

        return FolderSender(self.path, self.include)

    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:  # noqa: ARG002 - there is nobody to call
        """Find out whether files can be made there."""
        from dicom_node.deliver.checks import check_folder, with_gets  # noqa: PLC0415

        return with_gets(check_folder(self.path), wanted)

    def proof_questions(self, caller: Caller) -> ProofQuestions | None:  # noqa: ARG002 - there is nobody to call
        """Return what looks for the files and their digests."""
        if self.verify == "none":
            return None
        from dicom_node.deliver.senders.folder import objects_in_folder  # noqa: PLC0415

        return ProofQuestions(partial(objects_in_folder, self.path))
