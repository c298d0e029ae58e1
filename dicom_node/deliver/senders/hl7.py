"""Deliver results to a RIS, an EHR or an interface engine as HL7 v2 messages over MLLP.

A receiver is believed when it answers for this very message (MSA-2). One that is silent, answers for another, or goes
away may have the message or not: it gets it again, and knows it by MSH-10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
            return Sent(uid, None, judged(line.ask(text.encode()), control_id(uid), self.peer))
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

    def ask(self, message: bytes) -> bytes:
        """Send a message and return the answer; a receiver that closes behind each answer is called again."""
        if self._connection is not None and self._connection.has_answered:
            try:
                return self._connection.ask(message)
            except DeliveryDeferred as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise
                self.close()
                return self._asked_again(message)
        self._connection = self._connection or MllpConnection(self._peer)
        return self._connection.ask(message)

    def _asked_again(self, message: bytes) -> bytes:
        """Ask on a new connection; nobody knows whether the receiver that closed the last one has read the message."""
        try:
            self._connection = MllpConnection(self._peer)
            return self._connection.ask(message)
        except DeliveryDeferred as error:
            error.may_have_arrived = True
            raise

    def close(self) -> None:
        """Close what is open."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def judged(answer: bytes, asked: str, peer: MllpPeer) -> str:
    """Return what is noted of an answer that accepts the message `asked` (2.9.2).

    Raises `DeliveryRefused` for one that rejects it, and `DeliveryDeferred` for an error or an answer for another.
    """
    try:
        found = read(answer.decode("utf-8", errors="replace"))
        msa = found.segment("MSA")
    except (ReportInvalid, LookupError) as error:
        raise DeliveryDeferred(f"{peer} answered something that is no acknowledgement.") from error
    code, answered = str(value(msa, 1)), str(value(msa, 2))
    if answered != asked:
        raise DeliveryDeferred(f"{peer} answered for another message than it was sent.")
    if code in _ACCEPTED:
        return f"accepted ({code}) as {asked}"
    told = f"{peer} answered {code if code in _ERROR | _REJECTED else 'no code of table 0008'}{_error_code(found)}"
    if code in _REJECTED:
        raise DeliveryRefused(
            f"{told}: it does not take the message as it is. Its log says why; then: dicom-node retry"
        )
    raise DeliveryDeferred(f"{told}.", most_attempts=_MOST_ERRORS)


def _error_code(found: hl7.Message) -> str:
    """Return the code of the first error that the answer tells (ERR-3)."""
    codes = [_ERROR_CODE.match(value(one, 3)) for one in found if str(one[0]) == "ERR"]
    return f" (error {codes[0][0]})" if codes and codes[0] else ""
