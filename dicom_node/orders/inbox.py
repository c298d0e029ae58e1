"""Takes one message: what it says and that it was taken is one transaction, and only then is it acknowledged."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from dicom_node.core.entities import StatedPatient
from dicom_node.core.errors import IndexUnavailable
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.received.orders import keep_order, message_key, note_message
from dicom_node.index.received.patient_corrections import PatientChange, follow_patient
from dicom_node.index.reports.kept import keep_report
from dicom_node.orders.acknowledgement import Acknowledger, acknowledgements
from dicom_node.orders.hl7_message import (
    DUPLICATE_KEY,
    FIELD_MISSING,
    INTERNAL_ERROR,
    UNSUPPORTED_EVENT,
    UNSUPPORTED_PROCESSING,
    UNSUPPORTED_TYPE,
    UNSUPPORTED_VERSION,
    VALUE_NOT_FOUND,
    Hl7Message,
    Hl7Segment,
    MessageRefused,
    read_header,
    read_message,
)
from dicom_node.orders.order_messages import orders_in
from dicom_node.orders.patient_messages import PatientNews, patient_news
from dicom_node.orders.report_messages import reports_in

_log = logging.getLogger(__name__)
_EVENT = re.compile(r"[A-Z]\d\d")
_ORDERS = frozenset({("ORM", "O01"), ("OMI", "O23")})


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxOptions:
    """What the site says of its messages; `settings` section `hl7`."""

    speaker: Acknowledger
    #: Who gave out the numbers of images and of messages that name nobody.
    patient_authority: str
    #: Where an order's accession number stands, ``OBR-18``.
    accession_field: str = "OBR-18"
    #: Whether reports of radiologists are taken.
    takes_reports: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What goes back to the sender, and what the log says of the message; no word of it is the message's own."""

    answers: Sequence[bytes]
    #: ``taken``, ``repeated``, ``ignored``, ``refused``, ``put off``.
    outcome: str
    kind: str = ""
    why: str = ""


class Inbox:
    """Takes messages into the index. Safe to share between threads."""

    def __init__(self, database: Database, options: InboxOptions, wake: Callable[[], None]) -> None:
        self._database = database
        self._options = options
        self._wake = wake

    def take(self, data: bytes, character_set_of: Callable[[Hl7Segment], str | None]) -> Taken:
        """Take one message; never raises. `character_set_of` tells of a header in which character set its sender
        writes where he states none, `None` of one who may not send."""
        header: Hl7Segment | None = None
        kind = ""
        try:
            header = read_header(data)
            character_set = character_set_of(header)
            if character_set is None:
                raise MessageRefused("This application may not send from there.", code=VALUE_NOT_FOUND, place="MSH-3")
            message = read_message(data, character_set)
            kind = _kind_of(message, takes_reports=self._options.takes_reports)
            outcome, why = self._enter(message, kind, data)
        except MessageRefused as refused:
            return self._refused(header, kind, refused)
        except Exception as error:  # noqa: BLE001 - the HL7 door: a message that breaks the node is answered, and told
            return self._put_off(header, kind, error)
        return Taken(acknowledgements(header, None, self._options.speaker), outcome, kind, why)

    def cut_off(self, beginning: bytes) -> Taken:
        """Answer a message that is larger than may be, of which only the beginning was received; never raises."""
        too_large = MessageRefused("It is larger than hl7.max_message_kb.", code=INTERNAL_ERROR)
        try:
            return self._refused(read_header(beginning), "", too_large)
        except MessageRefused as refused:
            return self._refused(None, "", refused)

    def _refused(self, header: Hl7Segment | None, kind: str, refused: MessageRefused) -> Taken:
        answers = acknowledgements(header, refused, self._options.speaker)
        return Taken(answers, "refused" if refused.is_final else "put off", kind, str(refused))

    def _put_off(self, header: Hl7Segment | None, kind: str, error: Exception) -> Taken:
        if not isinstance(error, IndexUnavailable):
            _log.error("a message broke its reader", extra={"kind": kind}, exc_info=error)
        why = "The node cannot take it now; send it again."
        return self._refused(header, kind, MessageRefused(why, code=INTERNAL_ERROR, is_final=False))

    def _enter(self, message: Hl7Message, kind: str, data: bytes) -> tuple[str, str]:
        """Enter what a message says; return what became of it, and why where it says nothing to the node."""
        key = message_key(message.sender, message.control_id, data)
        with self._database.write() as connection:
            if not note_message(connection, key, kind, now_in(connection)):
                return "repeated", ""
            why = self._act_on(connection, message)
        if why:
            return "ignored", why
        self._wake()
        return "taken", ""

    def _act_on(self, connection: Connection, message: Hl7Message) -> str:
        options, now = self._options, now_in(connection)
        if message.kind[0] == "ADT":
            self._follow(connection, patient_news(message, options.patient_authority))
        elif message.kind[0] == "ORU":
            heard = reports_in(message, options.accession_field, options.patient_authority, now)
            outdated = [keep_report(connection, one, now) for one in heard.reports]
            return "" if "" in outdated else "; ".join([*heard.ignored, *outdated])
        else:
            for order in orders_in(message, options.accession_field, options.patient_authority):
                keep_order(connection, order.context, order.patients, now)
        return ""

    def _follow(self, connection: Connection, news: PatientNews) -> None:
        """Let studies follow their patient. Raises `MessageRefused` for a merge that cannot be."""
        stated = [
            StatedPatient(number=number, name=news.name, birth_date=news.birth_date, sex=news.sex)
            for number in news.numbers
        ]
        change = PatientChange(moves=news.moves, stated=stated, authority=self._options.patient_authority)
        try:
            follow_patient(connection, change, now_in(connection))
        except ValueError as error:
            raise MessageRefused(f"{error} {_NO_UNMERGE}", code=DUPLICATE_KEY, place="MRG-1") from error


_NO_UNMERGE = "The node does not take a merge back: correct the studies at their source and send their images again."


def _kind_of(message: Hl7Message, *, takes_reports: bool) -> str:
    """Return type and event of a message that the node may take: fit for a log, whatever was sent.

    Raises `MessageRefused`.
    """
    header, (kind, event) = message.header, message.kind
    if not message.control_id:
        raise MessageRefused("It has no control id.", code=FIELD_MISSING, place="MSH-10")
    if header.value(11) not in ("", "P"):
        raise MessageRefused("Only messages of production (P) are taken.", code=UNSUPPORTED_PROCESSING, place="MSH-11")
    if not (header.value(12) or "2.").startswith("2."):
        raise MessageRefused("Only HL7 version 2 is read.", code=UNSUPPORTED_VERSION, place="MSH-12")
    if kind == "ORU" and not takes_reports:
        raise MessageRefused("The node takes no reports; set reports.hl7, or filter them out.",
                             code=UNSUPPORTED_TYPE, place="MSH-9")  # fmt: skip
    if kind not in {"ORM", "OMI", "ADT", "ORU"}:
        raise MessageRefused("The node takes ORM, OMI and ADT messages, and by option ORU.",
                             code=UNSUPPORTED_TYPE, place="MSH-9")  # fmt: skip
    if not _EVENT.fullmatch(event):
        raise MessageRefused("MSH-9 names no event.", code=UNSUPPORTED_EVENT, place="MSH-9")
    if kind == "ORU" and event != "R01":
        raise MessageRefused("Of reports ORU^R01 is taken.", code=UNSUPPORTED_EVENT, place="MSH-9")
    if kind in {"ORM", "OMI"} and (kind, event) not in _ORDERS:
        raise MessageRefused("Of orders ORM^O01 and OMI^O23 are taken.", code=UNSUPPORTED_EVENT, place="MSH-9")
    return f"{kind}^{event}"
