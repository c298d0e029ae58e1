"""What is asked of a peer before anything is sent, and what its refusal means (PS3.8 9.3.2-9.3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.core.errors import DeliveryDeferred
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.dicom_file import DicomFile
from dicom_node.dimse.tls import Tls

#: An association has at most 128 contexts: their IDs are odd and one byte long (PS3.8 9.3.2.2).
MAX_CONTEXTS = 128
#: Responses are commands only, so little is asked for.
_OWN_MAX_PDU_BYTES = 65536
#: Verification SOP Class (PS3.4 A.4), the C-ECHO.
VERIFICATION = "1.2.840.10008.1.1"
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """A DICOM application elsewhere and how it is called; `timeout_s` bounds every single wait for it."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"{self.called_ae_title}@{self.host}:{self.port}"


#: A proposal: SOP class and the transfer syntaxes of which the peer picks one.
Proposal = tuple[str, tuple[str, ...]]


def proposals(file: DicomFile) -> tuple[Proposal, ...]:
    """Return the contexts one file needs: its own syntax alone, so that it is preferred, and what it converts to."""
    own = (file.sop_class_uid, (file.transfer_syntax_uid,))
    others = file.fallback_syntaxes()
    return (own, (file.sop_class_uid, others)) if others else (own,)


def in_groups(things: Iterable[T], file_of: Callable[[T], DicomFile]) -> Iterator[list[T]]:
    """Split into runs, in order, that fit one association each."""
    group: list[T] = []
    needed: set[Proposal] = set()
    for thing in things:
        wanted = needed.union(proposals(file_of(thing)))
        if len(wanted) > MAX_CONTEXTS:
            yield group
            group, wanted = [], set(proposals(file_of(thing)))
        group.append(thing)
        needed = wanted
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the peer agreed to: context IDs by (SOP class, transfer syntax), and its longest PDU (0: any length).

    `implementation` is the version name it gives, or else its class UID.
    """

    context_ids: Mapping[tuple[str, str], int]
    max_pdu_bytes: int
    implementation: str = ""


def request_pdu(remote: Remote, proposed: Sequence[Proposal]) -> bytes:
    """Encode the A-ASSOCIATE-RQ for at most `MAX_CONTEXTS` proposals."""
    request = A_ASSOCIATE_RQ()
    request.from_primitive(_request(remote, [_context(number, one) for number, one in enumerate(proposed)]))
    return request.encode()


def read_acceptance(pdu: bytes, proposed: Sequence[Proposal]) -> Accepted:
    """Decode an A-ASSOCIATE-AC. Raises what decoding raises for malformed bytes."""
    acceptance = A_ASSOCIATE_AC()
    acceptance.decode(pdu)
    sop_classes = {2 * number + 1: sop_class_uid for number, (sop_class_uid, _) in enumerate(proposed)}
    context_ids = {}
    for item in acceptance.presentation_context:
        context_id = item.presentation_context_id or 0
        if item.result == 0 and context_id in sop_classes:
            context_ids[sop_classes[context_id], str(item.transfer_syntax)] = context_id
    user_information = acceptance.user_information
    if user_information is None:
        return Accepted(context_ids, 0)
    name = user_information.implementation_version_name or user_information.implementation_class_uid or ""
    return Accepted(context_ids, user_information.maximum_length or 0, str(name).strip())


#: (source, reason) of a rejection (PS3.8 9.3.4) that people can do something about.
_ADVICE = {
    (1, 3): "It does not know calling AE title {calling}: register it there, or set node.ae_title.",
    (1, 7): "It does not answer to called AE title {called}: correct ae_title of this destination.",
    (3, 1): "It is overloaded for the moment.",
    (3, 2): "It has reached its limit of associations.",
}


def rejected(remote: Remote, pdu: bytes) -> DeliveryDeferred:
    rejection = A_ASSOCIATE_RJ()
    rejection.decode(pdu)
    why = (rejection.source or 0, rejection.reason_diagnostic or 0)
    text = _ADVICE.get(why, f"Reason: {rejection.reason_str}.")
    advice = text.format(calling=remote.calling_ae_title, called=remote.called_ae_title)
    return DeliveryDeferred(f"{remote} rejected the association ({rejection.result_str}). {advice} Tried again later.")


def _context(number: int, proposal: Proposal) -> PresentationContext:
    context = build_context(proposal[0], list(proposal[1]))
    context.context_id = 2 * number + 1
    return context


def _request(remote: Remote, contexts: list[PresentationContext]) -> A_ASSOCIATE:
    longest = MaximumLengthNotification()
    longest.maximum_length_received = _OWN_MAX_PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    request = A_ASSOCIATE()
    request.application_context_name = UID(_APPLICATION_CONTEXT)
    request.calling_ae_title = remote.calling_ae_title
    request.called_ae_title = remote.called_ae_title
    request.presentation_context_definition_list = contexts
    request.user_information = [longest, implementation, version]
    return request
