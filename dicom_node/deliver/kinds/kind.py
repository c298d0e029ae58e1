"""What a kind of destination is: its settings are its fields, and what the node must know of it are its methods.

A kind says which objects it takes, how they are sent, and how an operator learns whether it works; everything else
(the settings, what is owed, the doctor, the API, the documentation) is derived from the table in this package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from dicom_node.config.incoming import DicomTlsSettings
from dicom_node.config.outgoing import DestinationSettings, OutputSettings, Preset, SrSopClass, wanted_outputs
from dicom_node.config.section import without_keys_of_other_kinds
from dicom_node.core.entities import MediaType
from dicom_node.core.errors import DestinationAway
from dicom_node.core.outputs.capability_match import WantedOutputs

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.deliver.outgoing import EventSender, Sender, SentObject
    from dicom_node.dimse.commitment_scu import CommitmentReport
    from dicom_node.dimse.probe import AgreedContexts
    from dicom_node.fhir.client.capabilities import ServerMemory
    from dicom_node.headers.patient import Said

_NO_TLS = DicomTlsSettings()
#: What 0.1.0 took, and left unused, in a destination of any kind.
_KEYS_OF_0_1_0 = frozenset({
    "ae_title", "host", "port", "tls", "tls_ca", "tls_server_name", "url", "path", "token", "username", "password",
    "patient",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caller:
    """Who delivers: the node's AE title, its patience for one attempt, and what it shows and trusts over TLS.

    `knows_patient_systems` tells whether the settings name an identifier system of patients; `memory` keeps what is
    learned of a web server beyond one batch, `None`: nothing does. `viewer_url` is the node's own viewer, for
    destinations that name none.
    """

    ae_title: str
    timeout_s: float
    tls: DicomTlsSettings = _NO_TLS
    knows_patient_systems: bool = False
    memory: ServerMemory | None = None
    viewer_url: str | None = None


def caller_of(settings: Settings) -> Caller:
    """Return who a node with these settings is when it delivers."""
    knows_systems = bool(settings.fhir.patient_system or settings.fhir.issuers)
    return Caller(
        settings.node.ae_title,
        settings.delivery.timeout_s,
        settings.dicom_tls,
        knows_systems,
        viewer_url=settings.viewer_url,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a destination is well, what was seen, and what to do if it is not (empty when it is)."""

    ok: bool
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class IdentityQuery:
    """Asks a destination about a study, by Study Instance UID; each question takes a bounded time.

    `whose`: whom it has the study under; the answers are those about that study, none where it does not have it.
    `series`: the Series Instance UIDs that it has of the study. Both raise `QueryNotOffered`, or `DeliveryDeferred`
    where the destination may answer later.
    """

    whose: Callable[[str], Sequence[Said]]
    series: Callable[[str], Collection[str]]


@dataclass(frozen=True, slots=True)
class ProofQuestions:
    """Asks a destination whether it has objects that it was sent; each question takes a bounded time.

    `has`: the UIDs of those that it has. `commit`: ask it, under a Transaction UID, to commit itself to keeping
    objects, by their SOP class and instance UIDs; what it reports meanwhile is handed to the function, whose answer is
    the status that it hears. Both raise `QueryNotOffered`, or `DeliveryDeferred` where the destination may answer
    later. `None`: it is not asked that way.
    """

    has: Callable[[Sequence[SentObject]], Collection[str]] | None = None
    commit: Callable[[str, Sequence[tuple[str, str]], Callable[[CommitmentReport], int]], None] | None = None


class DestinationKind(DestinationSettings, ABC):
    """A configured destination of some kind."""

    #: What `verify` may be other than `auto` and `none`.
    can_prove: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _proves_as_it_can(self) -> Self:
        if self.verify in {"auto", "none"} | self.can_prove:
            return self
        ways = ", ".join(sorted({"auto", "none"} | self.can_prove))
        raise ValueError(f"verify = {self.verify!r} cannot be done for kind = {self.kind!r}; choose of: {ways}")

    @model_validator(mode="before")
    @classmethod
    def _old_keys_are_ignored(cls, values: Any, info: ValidationInfo) -> Any:
        return without_keys_of_other_kinds(cls, values, _KEYS_OF_0_1_0, info)

    @property
    @abstractmethod
    def takes(self) -> frozenset[str]:
        """Media types of the objects it is owed, as in ``application/dicom``; ``*/*`` is any."""

    @property
    def told_in_events(self) -> tuple[str, ...] | None:
        """What of patient and order the events tell it (`core.event_types`); `None`: it is told of none, and owed
        objects."""
        return None

    @abstractmethod
    def sender(self, caller: Caller) -> Sender | EventSender:
        """Return what sends to it, objects or events; nothing is opened yet."""

    @abstractmethod
    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:
        """Find out whether it answers and would take what is `wanted` of it. Sends no object."""

    def reach(self, caller: Caller) -> None:
        """Find out at little cost whether it is there and lets the node in.

        Raises `DestinationAway` or `CredentialsRefused`. While it is away this is asked every few seconds; a kind for
        which `check` is too much for that asks for less.
        """
        answer = self.check(caller, self.wanted("auto"))
        if not answer.ok:
            raise DestinationAway(f"{answer.text}. {answer.advice}")

    @property
    def address(self) -> str:
        """Whom the memory of what it takes is about; empty where there is nobody to ask or to refuse."""
        return ""

    @property
    def server_address(self) -> str:
        """Whom the memory of what a web server does is about; empty where nothing is learned of one."""
        return ""

    def probe(self, caller: Caller) -> Callable[[], AgreedContexts] | None:  # noqa: ARG002 - for those that can be asked
        """Return what asks it which SOP classes it takes; `None` where it cannot be asked."""
        return None

    def identity_query(self, caller: Caller) -> IdentityQuery | None:  # noqa: ARG002 - as `probe`
        """Return what asks it whose study it has; `None` where it is not asked."""
        return None

    def proof_questions(self, caller: Caller) -> ProofQuestions | None:  # noqa: ARG002 - as `probe`
        """Return what asks it whether it has what it was sent; `None` where it is not asked."""
        return None

    def wanted(self, site_report: SrSopClass) -> WantedOutputs:
        """Return which DICOM objects it is configured to get; `site_report` is `results.sr_sop_class`."""
        return wanted_outputs("generic-pacs", None, site_report)


class DicomObjectsKind(DestinationKind):
    """A destination that takes DICOM objects, and chooses which of them."""

    preset: Preset = Field(
        "generic-pacs", description="Which objects it gets: `generic-pacs`, `ohif`, `weasis` or `air`."
    )
    outputs: OutputSettings | None = Field(
        None,
        description="What it gets other than its preset says; "
        "the keys are in [Connect a PACS](../how-to/connect-a-pacs.md#which-objects-it-gets).",
    )

    @property
    def takes(self) -> frozenset[str]:
        """DICOM objects."""
        return frozenset({MediaType.DICOM})

    def wanted(self, site_report: SrSopClass) -> WantedOutputs:
        """Return which DICOM objects it is configured to get; `site_report` is `results.sr_sop_class`."""
        return wanted_outputs(self.preset, self.outputs, site_report)


class ArchiveKind(DicomObjectsKind):
    """A destination that has the studies of its results, perhaps, and can be asked whose they are."""

    check_identity: Literal["auto", "none"] = Field(
        "auto",
        description="Whether it is asked, before a result is sent, whose study it has: `auto` where it answers "
        "such queries, `none` never.",
    )
