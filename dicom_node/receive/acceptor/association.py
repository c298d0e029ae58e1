"""One association from its request to its end: negotiate, then message by message in the connection's own thread."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dicom_node.core.calls.requests import on_behalf_of
from dicom_node.core.metrics.table import ASSOCIATIONS, ASSOCIATIONS_REFUSED
from dicom_node.core.metrics.tally import TALLY
from dicom_node.dimse.vocabulary import AbortReason, PduType
from dicom_node.receive.acceptor.admission import CallingPeer, Capacity, NotAdmitted, PeerAdmission
from dicom_node.receive.acceptor.incoming import IncomingObject, TooLarge
from dicom_node.receive.acceptor.messages import Messages, ReportQueue
from dicom_node.receive.acceptor.negotiation import (
    FIXED_BYTES,
    MAX_REQUEST_BYTES,
    AssociationRequest,
    Context,
    RefusedClass,
    accept,
    read_request,
    read_titles,
    refused_classes,
    reject_pdu,
)
from dicom_node.receive.acceptor.storing import AssociationRef, Storing
from dicom_node.receive.acceptor.strangers import Strangers
from dicom_node.receive.acceptor.transport import (
    RELEASE_RP,
    MalformedPdu,
    PduReader,
    PeerGone,
    PeerSilent,
    PeerTooSlow,
    Transport,
    abort_pdu,
)
from dicom_node.receive.options import AcceptorOptions, AeOption
from dicom_node.storage.spool import Spool

#: How often an association that waits for the outcome of a storage commitment is looked after.
_REPORT_POLL_S = 0.25
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptorServices:
    """What all associations share."""

    options: AcceptorOptions
    admission: PeerAdmission
    storing: Storing
    strangers: Strangers
    capacity: Capacity
    spool: Spool
    #: An association began (its ID and where reports for it go) or ended (its ID, how, and how many objects it stored);
    #: a report (its number) was answered on an association with a status, or could not be sent there.
    began: Callable[[str, ReportQueue], None]
    ended: Callable[[str, str, int], None]
    answered: Callable[[int, str, int | None], None]
    #: A peer proposed what is not taken.
    not_taken: Callable[[CallingPeer, RefusedClass], None]


class ServedAssociation:
    """Serves one connection. `serve` returns when it is over and never raises for what a peer does."""

    def __init__(self, transport: Transport, caller: CallingPeer, services: AcceptorServices) -> None:
        """`caller` names host and certificate; the AE titles come with the request."""
        self._transport = transport
        self._reader = PduReader(transport)
        self._caller = caller
        self._services = services
        self._id = str(uuid.uuid4())
        self._began = time.monotonic()

    def serve(self, admitted: Callable[[], None]) -> None:
        """Negotiate and serve; `admitted` is called when the request has been read, so nobody waits for it any more."""
        with on_behalf_of([self._id]):
            self._serve(admitted)

    def _serve(self, admitted: Callable[[], None]) -> None:
        try:
            request = self._await_request()
            admitted()
            policy = self._services.admission.policy(self._caller, request.identity)
            with self._services.admission.place(self._caller.host):
                is_released = self._run(request, policy)
            if is_released:  # said when the place is free, for some come again at once
                self._transport.write(RELEASE_RP)
        except NotAdmitted as refused:
            self._refused("association rejected", refused.rejection.why, refused.rejection.code)
            self._say(reject_pdu(refused.rejection))
        except (PeerGone, PeerSilent):
            self._note("connection ended", logging.DEBUG)
        except PeerTooSlow:
            self._refused("connection closed", "the request did not come in time", "too-slow")
        except MalformedPdu as error:
            self._refused("connection closed", str(error), "malformed")
            self._say(abort_pdu(error.reason))
        finally:
            self._transport.close()

    def _await_request(self) -> AssociationRequest:
        kind, length, _ = self._reader.head()
        if kind != PduType.ASSOCIATE_RQ:
            raise MalformedPdu("the first PDU is no A-ASSOCIATE-RQ", AbortReason.UNEXPECTED_PDU)
        if length < FIXED_BYTES:
            raise MalformedPdu("A-ASSOCIATE-RQ is too short")
        fixed = self._reader.beginning(FIXED_BYTES)
        called, calling = read_titles(fixed)
        self._caller = replace(self._caller, calling_ae_title=calling, called_ae_title=called)
        self._services.admission.called(self._caller)  # before memory and time are spent on a stranger's request
        try:
            return read_request(fixed + self._reader.rest(length - FIXED_BYTES, MAX_REQUEST_BYTES - FIXED_BYTES))
        except ValueError as error:
            raise MalformedPdu(str(error)) from error

    def _run(self, request: AssociationRequest, policy: AeOption) -> bool:
        """Serve an admitted request; tell whether the peer waits for the answer to its release."""
        services, options = self._services, self._services.options
        answer, contexts = accept(request, policy, options.max_pdu_bytes)
        self._transport.write(answer)
        not_taken = refused_classes(request, policy, contexts)
        for refused in not_taken:
            services.not_taken(self._caller, refused)
        association = AssociationRef(association_id=self._id, caller=self._caller)
        incoming = IncomingObject(services.spool, options.parts_owner, options.max_object_bytes, options.max_pdu_bytes)
        messages = Messages(self._transport.write, association, incoming, services.storing, services.capacity)
        services.began(self._id, messages.reports)
        outcome = "lost"
        try:
            outcome = self._converse(messages, contexts, request.max_pdu_bytes)
        except PeerTooSlow:
            self._abort("the peer did not go on in time", AbortReason.NOT_SPECIFIED)
            outcome = "aborted"
        except TooLarge:
            self._abort("the object is larger than dicom.max_object_mb allows", AbortReason.NOT_SPECIFIED)
            outcome = "aborted"
        except MalformedPdu as error:
            self._abort(str(error), error.reason)
            outcome = "aborted"
        except PeerGone:
            pass
        finally:
            incoming.discard()
            for report in messages.unanswered():
                services.answered(report, self._id, None)
            services.ended(self._id, outcome, messages.stored)
            TALLY.count(ASSOCIATIONS, peer=self._caller.calling_ae_title, outcome=outcome)
            self._note(
                "association ended", logging.INFO, outcome=outcome, stored=messages.stored, refused=messages.refused,
                not_taken=len(not_taken), took_s=round(time.monotonic() - self._began, 3),
            )  # fmt: skip
        return outcome == "released"

    def _converse(self, messages: Messages, contexts: Mapping[int, Context], peer_max_pdu_bytes: int) -> str:
        """Read PDU after PDU until the association ends; return how."""
        options, silent_since = self._services.options, time.monotonic()
        while True:
            try:
                kind, length, first = self._next_head(messages)
            except PeerSilent:
                limit_s = options.pdu_timeout_s if messages.is_within else options.idle_timeout_s
                if time.monotonic() - silent_since >= limit_s:
                    raise PeerTooSlow from None
            else:
                if kind == PduType.P_DATA:
                    self._p_data(messages, contexts, length, first)
                elif kind == PduType.RELEASE_RQ and length == 4:
                    return "released"
                elif kind == PduType.ABORT and length == 4:
                    return "aborted"
                else:
                    known = kind in list(PduType)
                    reason = AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNIZED_PDU
                    raise MalformedPdu(f"PDU type 0x{kind:02X} out of turn", reason)
                silent_since = time.monotonic()
            if messages.awaits_report:
                for report, answered in messages.send_reports(peer_max_pdu_bytes):
                    self._services.answered(report, self._id, answered)

    def _next_head(self, messages: Messages) -> tuple[int, int, int]:
        """Return the head of the next PDU. Raises `PeerSilent`, soon when there may be something to send meanwhile."""
        if messages.awaits_report and not self._transport.comes(_REPORT_POLL_S):
            raise PeerSilent
        return self._reader.head()

    def _p_data(self, messages: Messages, contexts: Mapping[int, Context], left: int, length: int) -> None:
        """Receive the fragments of one P-DATA-TF (PS3.8 9.3.5), `left` bytes in all, the first one `length` long.

        Each read has the transport's patience; many small fragments together have no more than one.
        """
        deadline = time.monotonic() + self._services.options.pdu_timeout_s
        if left > self._services.options.max_pdu_bytes:
            raise MalformedPdu(f"a P-DATA-TF of {left} bytes, more than was agreed")
        while True:
            left -= 4
            if not 2 <= length <= left:
                raise MalformedPdu("a fragment longer than its PDU, or without a header")
            view = messages.buffer_for(length - 2)
            context_id, control = self._reader.control(view)
            context = contexts.get(context_id)
            if context is None:
                raise MalformedPdu(f"presentation context {context_id} was not accepted")
            messages.fragment(context_id, context, control, view)
            left -= length
            if not left:
                return
            if left < 6:
                raise MalformedPdu("P-DATA-TF ends inside a fragment")
            if time.monotonic() > deadline:
                raise PeerTooSlow
            length = self._reader.next_length()

    def _abort(self, why: str, reason: AbortReason) -> None:
        self._note("association aborted", logging.WARNING, why=why)
        self._say(abort_pdu(reason))

    def _say(self, pdu: bytes) -> None:
        """Send a last word; a peer that has gone does not hear it."""
        try:
            self._transport.write(pdu)
            self._transport.hang_up()
        except PeerGone:
            pass

    def _refused(self, event: str, why: str, code: str) -> None:
        caller = self._caller
        TALLY.count(ASSOCIATIONS_REFUSED, peer=caller.calling_ae_title, reason=code)
        self._services.strangers.refused(event, caller.host, calling_ae_title=caller.calling_ae_title, why=why)

    def _note(self, event: str, level: int, **more: object) -> None:
        caller = self._caller
        who = {"calling_ae_title": caller.calling_ae_title, "host": caller.host}
        _log.log(level, event, extra=who | more)
