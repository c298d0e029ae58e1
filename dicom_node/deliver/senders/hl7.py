"""Deliver results to a RIS, an EHR or an interface engine as HL7 v2 messages over MLLP.

A receiver is believed when it answers for this very message (MSA-2). One that is silent, answers for another, or goes
away may have the message or not: it gets it again, and knows it by MSH-10.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import hl7

from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    DestinationAway,
    ReportInvalid,
)
from dicom_node.deliver.connections.mllp import MllpConnection, MllpPeer
from dicom_node.deliver.outgoing import Outgoing, Sent
from dicom_node.deliver.viewer_links import viewer_link
from dicom_node.fhir.hl7.grammar import read, value
from dicom_node.fhir.hl7.message import control_id
from dicom_node.fhir.hl7.own import checked
from dicom_node.fhir.hl7.receiver import Receiver, Subject, for_receiver, subject_of

#: Table 0008: accepted; an error, which may pass; rejected.
_ACCEPTED, _ERROR, _REJECTED = frozenset({"AA", "CA"}), frozenset({"AE", "CE"}), frozenset({"AR", "CR"})
#: After so many answers that tell of an error a message is parked.
_MOST_ERRORS = 5
#: A code of table 0357; the words beside it may repeat the patient, and are not told.
_ERROR_CODE = re.compile(r"\d{3}")
#: Segments end with CR alone; some receivers write lines, and blanks around what they say.
_LINE_ENDS, _BLANKS = re.compile(r"[\r\n]+"), "\ufeff\0 \r\n"


@dataclass(frozen=True, slots=True)
class Hl7Sender:
    """Sends each message as it was kept, as far as the receiver does not want it otherwise.

    `needs_authority`: the site names identifier systems of patients, so a number without one is another hospital's. The
    connection lasts as long as one call of `send`, or until an answer is missing.
    """

    peer: MllpPeer
    receiver: Receiver
    viewer_url: str | None = None
    needs_authority: bool = False

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Send in order; what only one message is refused for does not hold back the others."""
        line = _Line(self.peer)
        try:
            for position, item in enumerate(items):
                sent = self._send_one(line, item)
                yield sent
                if isinstance(sent.error, DestinationAway | CredentialsRefused):
                    yield from (Sent(left.artifact.uid, sent.error, "") for left in items[position + 1 :])
                    return
        finally:
            line.close()

    def _send_one(self, line: _Line, item: Outgoing) -> Sent:
        uid = item.artifact.uid
        try:
            text = self._prepared(item)
            asked = control_id(uid)
            return Sent(uid, None, judged(line.ask(text.encode(), asked), asked, self.peer))
        except DeliveryError as error:
            if not isinstance(error, DeliveryRefused):
                line.close()
            return Sent(uid, error, "")

    def _prepared(self, item: Outgoing) -> str:
        """Return the message for this receiver. Raises `DeliveryRefused` for what may not go to anybody."""
        try:
            stored = checked(item.path.read_bytes(), item.artifact.uid)
            subject = subject_of(stored)
            self._require_patient(subject)
            link = viewer_link(
                self.viewer_url, study_instance_uid=subject.study_instance_uid,
                accession_number=subject.accession_number, patient_id=subject.patient_id,
            )  # fmt: skip
            return for_receiver(stored, self.receiver, link)
        except OSError as error:
            raise DeliveryRefused(f"The stored message cannot be read: {error.strerror}.") from error
        except ReportInvalid as error:
            raise DeliveryRefused(
                f"The stored message is not one that the node makes; it is not sent. {error} A model whose code does "
                "more than compute may be behind it: look at the code that dicom-node models verify lists."
            ) from error

    def _require_patient(self, subject: Subject) -> None:
        if not subject.patient_id:
            raise DeliveryRefused("The images name no PatientID, so nobody could tell whose result it is; not sent.")
        if self.needs_authority and not subject.has_authority:
            raise DeliveryRefused(
                "The images name an issuer of PatientID that fhir.issuers does not hold, or none and no "
                "fhir.patient_system is set; under another authority the number may be another patient's. Add it "
                "there, then: dicom-node rerun STUDY"
            )


class _Line:
    """The connection of one batch: opened when first needed, and again when the receiver has closed it."""

    def __init__(self, peer: MllpPeer) -> None:
        self._peer = peer
        self._connection: MllpConnection | None = None
        #: The numbers of what went out before: some receivers answer late, or once for receipt and once for the rest.
        self._earlier: set[str] = set()

    def ask(self, message: bytes, asked: str) -> bytes:
        """Send the message `asked` and return the answer; what is answered for earlier ones is passed over."""
        earlier = frozenset(self._earlier)
        self._earlier.add(asked)
        answer = self._ask(message)
        while self._connection is not None and _is_of(earlier, answer):
            answer = self._connection.next_answer()
        return answer

    def _ask(self, message: bytes) -> bytes:
        """Return what comes first; a receiver that closes behind each answer is called again."""
        if self._connection is None or not self._connection.has_answered:
            self._connection = self._connection or MllpConnection(self._peer)
            return self._connection.ask(message)
        try:
            return self._connection.ask(message)
        except DeliveryDeferred as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            self._connection = self._called_again(error)
        return self._connection.ask(message)

    def _called_again(self, lost: DeliveryDeferred) -> MllpConnection:
        """Connect anew. Raises `lost` where nobody is there any more: the message that went out may have arrived."""
        self.close()
        try:
            return MllpConnection(self._peer)
        except DestinationAway as error:
            raise lost from error

    def close(self) -> None:
        """Close what is open."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def judged(answer: bytes, asked: str, peer: MllpPeer) -> str:
    """Return what is noted of an answer that accepts the message `asked` (2.9.2).

    Raises `DeliveryRefused` for one that rejects it, and `DeliveryDeferred` for an error or an answer for another. One
    that says both is no acceptance.
    """
    found = _read(answer)
    told = _told_in(found)
    if found is None or not told:
        raise DeliveryDeferred(f"{peer} answered something that is no acknowledgement.")
    codes = [code for answered, code in told if answered == asked]
    if not codes:
        raise DeliveryDeferred(f"{peer} answered for another message than it was sent.")
    code = min(codes, key=lambda one: (one not in _REJECTED, one in _ACCEPTED))
    if code in _ACCEPTED:
        return f"accepted ({code}) as {asked}"
    text = f"{peer} answered {code if code in _ERROR | _REJECTED else 'no code of table 0008'}{_error_code(found)}"
    if code in _REJECTED:
        raise DeliveryRefused(
            f"{text}: it does not take the message as it is. Its log says why; then: dicom-node retry"
        )
    raise DeliveryDeferred(f"{text}.", most_attempts=_MOST_ERRORS)


def _read(answer: bytes) -> hl7.Message | None:
    """Return an answer whatever ends its segments, `None` for what is no message."""
    text = _LINE_ENDS.sub("\r", answer.decode("utf-8", errors="replace").strip(_BLANKS))
    try:
        return read(text)
    except ReportInvalid:
        return None


def _told_in(found: hl7.Message | None) -> list[tuple[str, str]]:
    """Return which messages an answer is for (MSA-2), and the code of each (MSA-1)."""
    told = [] if found is None else [one for one in found if str(one[0]) == "MSA"]
    return [(str(value(one, 2)).strip(_BLANKS), str(value(one, 1)).strip(_BLANKS).upper()) for one in told]


def _is_of(earlier: Collection[str], answer: bytes) -> bool:
    """Tell an answer that is for messages sent before, and for nothing else."""
    told = {answered for answered, _ in _told_in(_read(answer))}
    return bool(told) and told <= set(earlier)


def _error_code(found: hl7.Message) -> str:
    """Return the code of the first error that the answer tells (ERR-3)."""
    codes = [_ERROR_CODE.match(value(one, 3)) for one in found if str(one[0]) == "ERR"]
    return f" (error {codes[0][0]})" if codes and codes[0] else ""
