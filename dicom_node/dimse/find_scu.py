"""C-FIND, Study Root (PS3.4 C.4.1): one question, and its matches as they come."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.core.errors import QueryRefused, SourceRefused, SourceUnavailable
from dicom_node.dimse.command_set import Element, Field
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.retrieve_scu import STUDY_ROOT_FIND, Message, RetrieveAssociation, cancel, request

_LONGEST_IDENTIFIER_BYTES = 1 << 20
#: Answers read and dropped after a C-CANCEL, before the association is broken off.
_PATIENCE_AFTER_CANCEL = 1000
_PENDING = {0xFF00, 0xFF01}
_CANCELLED = 0xFE00
_MESSAGE_ID = 1


def find(
    remote: Remote, association: RetrieveAssociation, keys: Mapping[str, str], limit: int | None = None
) -> Iterator[Dataset]:
    """Yield the matches of one C-FIND, at most `limit`; `keys` map keywords to what must match, "" to be told.

    Raises `SourceUnavailable` and `SourceRefused` (`QueryRefused` with the status of a failure).
    """
    context_id, syntax = _context(remote, association, STUDY_ROOT_FIND)
    association.send(context_id, request(Field.C_FIND_RQ, STUDY_ROOT_FIND, _MESSAGE_ID), identifier(keys, syntax))
    found = dropped = 0
    while True:
        message = association.next_message()
        status = status_of(remote, message, Field.C_FIND_RSP)
        if status not in _PENDING:
            _check_end(remote, status)
            return
        if limit is not None and found >= limit:
            dropped += 1
            _drop(remote, dropped)
            if dropped == 1:
                association.send(context_id, cancel(_MESSAGE_ID))
            continue
        found += 1
        yield read_identifier(remote, message, syntax)


def _drop(remote: Remote, dropped: int) -> None:
    if dropped > _PATIENCE_AFTER_CANCEL:
        raise SourceUnavailable(f"{remote} does not heed C-CANCEL. Ask for fewer studies: name a date.")


def _check_end(remote: Remote, status: int) -> None:
    if status in {0x0000, _CANCELLED}:
        return
    if status == 0xA700:
        raise SourceUnavailable(f"{remote} answered C-FIND with 0xA700 (out of resources). Ask again later.")
    raise QueryRefused(f"{remote} answered C-FIND with 0x{status:04X}; its log may say why.", status)


def identifier(keys: Mapping[str, str], transfer_syntax_uid: str) -> bytes:
    """Encode what is asked for."""
    dataset = Dataset()
    if not all(value.isascii() for value in keys.values()):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    encoded = encode(dataset, UID(transfer_syntax_uid).is_implicit_VR, is_little_endian=True)
    if encoded is None:
        raise ValueError("the identifier cannot be encoded")
    return encoded


def read_identifier(remote: Remote, message: Message, transfer_syntax_uid: str) -> Dataset:
    """Decode the identifier that came with a response. Raises `SourceUnavailable`."""
    encoded = bytearray()
    for piece in message.pieces:
        encoded += piece
        if len(encoded) > _LONGEST_IDENTIFIER_BYTES:
            raise SourceUnavailable(f"{remote} sent a match of more than {_LONGEST_IDENTIFIER_BYTES} bytes.")
    try:
        dataset = decode(BytesIO(encoded), UID(transfer_syntax_uid).is_implicit_VR, is_little_endian=True)
        for _ in dataset:  # pydicom converts values when they are first looked at
            pass
    except (ValueError, TypeError, LookupError, AttributeError, EOFError, NotImplementedError, struct.error) as error:
        raise SourceUnavailable(f"{remote} sent a match that is no data set.") from error
    return dataset


def status_of(remote: Remote, message: Message, field: Field) -> int:
    """Return the status of a response. Raises `SourceUnavailable` when the message is something else."""
    try:
        if message.command.number(Element.COMMAND_FIELD) == field:
            return message.command.number(Element.STATUS)
    except ValueError:
        pass
    raise SourceUnavailable(f"{remote} sent another message than {field.name}.")


def _context(remote: Remote, association: RetrieveAssociation, sop_class_uid: str) -> tuple[int, str]:
    found = association.context_of(sop_class_uid)
    if found is None:
        raise SourceRefused(f"{remote} does not accept {UID(sop_class_uid).name}. Enable it there for this node.")
    return found
