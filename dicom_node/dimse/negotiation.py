"""Who is called and how (TLS: PS3.15 B.12; BCP 195, RFC 9325), what is asked before anything is sent, and what a
refusal means (PS3.8 9.3.2-9.3.4)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.config.files import require_regular
from dicom_node.config.incoming import DicomTlsSettings
from dicom_node.config.peers import DicomPeer
from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DestinationAway
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.dicom_file import DicomFile
from dicom_node.dimse.vocabulary import APPLICATION_CONTEXT

#: An association has at most 128 contexts: their IDs are odd and one byte long (PS3.8 9.3.2.2).
MAX_CONTEXTS = 128

T = TypeVar("T")
_UserInformation = (
    MaximumLengthNotification | ImplementationClassUIDNotification | ImplementationVersionNameNotification
)


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


def request_pdu(
    remote: Remote, proposed: Sequence[Proposal], max_pdu_bytes: int, stored_here: Iterable[str] = ()
) -> bytes:
    """Encode the A-ASSOCIATE-RQ for at most `MAX_CONTEXTS` proposals; `max_pdu_bytes` is the longest PDU taken.

    For the SOP classes `stored_here` the node offers to be the one who stores (role selection, PS3.7 D.3.3.4).
    """
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = remote.calling_ae_title
    primitive.called_ae_title = remote.called_ae_title
    primitive.presentation_context_definition_list = [_context(number, one) for number, one in enumerate(proposed)]
    roles = [_provider_role(uid) for uid in sorted(set(stored_here))]
    primitive.user_information = [*_user_information(max_pdu_bytes), *roles]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(primitive)
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
    class_uid = str(user_information.implementation_class_uid or "")
    name = str(user_information.implementation_version_name or class_uid).strip()
    return Accepted(context_ids, user_information.maximum_length or 0, name)


#: Who names the peer when it is no section of the configuration but a command.
TYPED = "command"
#: (source, reason) of a rejection (PS3.8 9.3.4) that people can do something about.
_ADVICE = {
    (1, 3): "It does not know calling AE title {calling}: register it there, or {call_otherwise}.",
    (1, 7): "It does not answer to called AE title {called}: correct {named}.",
    (3, 1): "It is overloaded for the moment.",
    (3, 2): "It has reached its limit of associations.",
}
_REJECTED_TRANSIENT = 2
_UNKNOWN_CALLER = (1, 3)


@dataclass(frozen=True, slots=True)
class PeerRejection:
    """What an A-ASSOCIATE-RJ means, in words with advice, whether it may pass, and whether it is for who calls."""

    text: str
    is_transient: bool
    is_for_caller: bool


def read_rejection(remote: Remote, pdu: bytes, section: str) -> PeerRejection:
    """Decode an A-ASSOCIATE-RJ; `section` of the configuration names the peer, or a command does (`TYPED`).

    Raises what decoding raises.
    """
    rejection = A_ASSOCIATE_RJ()
    rejection.decode(pdu)
    why = (rejection.source or 0, rejection.reason_diagnostic or 0)
    advice = _ADVICE.get(why, f"Reason: {rejection.reason_str}.").format(
        calling=remote.calling_ae_title,
        called=remote.called_ae_title,
        call_otherwise="call as one that it knows, with --from" if section == TYPED else "set node.ae_title",
        named="AET in AET@HOST:PORT" if section == TYPED else f"ae_title of this {section}",
    )
    lasting = "for now" if rejection.result == _REJECTED_TRANSIENT else "for good"
    text = f"{remote} rejected the association {lasting}. {advice}"
    is_transient = rejection.result == _REJECTED_TRANSIENT
    return PeerRejection(text, is_transient, why == _UNKNOWN_CALLER and not is_transient)


def deferred_rejection(remote: Remote, pdu: bytes, section: str = "destination") -> DeliveryDeferred:
    """Return what a rejection means for a delivery: whatever is wrong, somebody may put it right."""
    rejection = read_rejection(remote, pdu, section)
    error = CredentialsRefused if rejection.is_for_caller else DestinationAway
    return error(f"{rejection.text} Tried again later.")


def _context(number: int, proposal: Proposal) -> PresentationContext:
    context = build_context(proposal[0], list(proposal[1]))
    context.context_id = 2 * number + 1
    return context


def _user_information(max_pdu_bytes: int) -> tuple[_UserInformation, ...]:
    longest = MaximumLengthNotification()
    longest.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return longest, implementation, version


def _provider_role(sop_class_uid: str) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = UID(sop_class_uid)
    role.scu_role, role.scp_role = False, True
    return role


#: Instead of a name: any certificate that the authorities signed will do.
ANY_NAME = "*"


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, and what to show. No `ca`: the system's authorities; no `certificate`: the node shows none."""

    server_name: str
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a client's context: TLS 1.2 or newer, forward secrecy, the peer's certificate always verified.

        Made for each connection, so that a renewed certificate needs no restart. Raises `OSError` (`ssl.SSLError`
        among them) when a file cannot be used.
        """
        require_regular(self.ca, self.certificate, self.private_key)
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL")
        context.check_hostname = self.server_name != ANY_NAME
        if self.certificate:
            # A key under a passphrase is an error here; without the argument OpenSSL would ask on the terminal.
            context.load_cert_chain(self.certificate, self.private_key, password="")
        return context


def tls_of(peer: DicomPeer, own: DicomTlsSettings) -> Tls | None:
    """Return how a configured peer is called; `own` is what the node shows and, by default, trusts."""
    if not peer.tls:
        return None
    shown = (peer.client_certificate, None) if peer.client_certificate else (own.certificate, own.private_key)
    return Tls(peer.tls_server_name or peer.host, peer.tls_ca or own.ca, *shown)
