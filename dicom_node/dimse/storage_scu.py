"""The user of storage and of verification: C-STORE and C-ECHO on an association, and whole folders sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path

from pydicom.uid import UID, MediaStorageDirectoryStorage

from dicom_node.core.errors import ClassRefused, DeliveryDeferred, DeliveryRefused
from dicom_node.dimse.association import Association
from dicom_node.dimse.command_set import (
    FRAGMENT_HEAD_BYTES,
    IS_LAST,
    P_DATA_HEAD_BYTES,
    Element,
    Field,
    command_pdu,
    command_set,
    p_data_head,
)
from dicom_node.dimse.dicom_file import DicomFile, opened, read_dicom_file, transcoded
from dicom_node.dimse.line import PeerErrors
from dicom_node.dimse.negotiation import (
    MAX_CONTEXTS,
    TYPED,
    Proposal,
    Remote,
    deferred_rejection,
    in_groups,
    proposals,
    read_rejection,
)
from dicom_node.dimse.statuses import error_of, note_of
from dicom_node.dimse.vocabulary import VERIFICATION


class StoreAssociation(Association):
    """An association on which objects are sent. Raises `DeliveryDeferred` when there is no one, or they say no."""

    peer_errors = PeerErrors(DeliveryDeferred, "Tried again later.", deferred_rejection)
    asked_pdu_bytes = 65536  # responses are commands only
    longest_sent_bytes = 262144

    def __init__(self, remote: Remote, proposed: Iterable[Proposal]) -> None:
        super().__init__(remote, sorted(set(proposed))[:MAX_CONTEXTS])
        self._message_id = 0
        self._context_ids = {names: id_ for id_, names in self.contexts.items()}

    @property
    def accepted(self) -> Collection[tuple[str, str]]:
        """Return the SOP classes the peer accepted, each with the transfer syntax it chose."""
        return self._context_ids.keys()

    def store(self, file: DicomFile) -> int:
        """Send one file and return the status of the response.

        Raises `ClassRefused` when the peer accepted no context for it, `DeliveryDeferred` when the peer is lost;
        the association is then of no more use.
        """
        transfer_syntax_uid, context_id = self._context_for(file)
        if transfer_syntax_uid == file.transfer_syntax_uid:
            with opened(file) as stored:
                return self._store(file, context_id, stored, file.offset)
        return self._store(file, context_id, transcoded(file, transfer_syntax_uid), 0)

    def echo(self) -> int:
        """Send a C-ECHO and return the status of the response. Raises as `store` does."""
        context = self.context_of(VERIFICATION)
        if context is None:
            raise DeliveryRefused(f"{self._remote} does not accept Verification (C-ECHO); it may still take objects.")
        self._message_id += 1
        with self._line.explained("answering C-ECHO"):
            self._line.say(command_pdu(context[0], echo_command(VERIFICATION, self._message_id)))
        return self.response(Field.C_ECHO_RSP, self._message_id)

    def _context_for(self, file: DicomFile) -> tuple[str, int]:
        for syntax in (file.transfer_syntax_uid, *file.fallback_syntaxes()):
            context_id = self._context_ids.get((file.sop_class_uid, syntax))
            if context_id is not None:
                return syntax, context_id
        raise ClassRefused(
            f"{self._remote} does not accept {UID(file.sop_class_uid).name} "
            f"as {UID(file.transfer_syntax_uid).name} (no presentation context)."
        )

    def _store(self, file: DicomFile, context_id: int, stored: BytesIO | FileIO, offset: int) -> int:
        size_bytes = stored.seek(0, 2) - offset
        stored.seek(offset)
        self._message_id = self._message_id % 65535 + 1
        command = store_command(file.sop_class_uid, file.sop_instance_uid, self._message_id)
        with self._line.explained("taking an object"):
            self._line.say(command_pdu(context_id, command))
            for pdu in file_pdus(context_id, stored, size_bytes, self._max_pdu_bytes):
                self._line.say(pdu)
        return self.response(Field.C_STORE_RSP, self._message_id)


def _rejection_of_typed(remote: Remote, pdu: bytes) -> DeliveryDeferred:
    return DeliveryDeferred(read_rejection(remote, pdu, TYPED).text)


class TypedAssociation(StoreAssociation):
    """An association for a person who has typed whom to call and as whom: nothing is tried again later."""

    peer_errors = PeerErrors(DeliveryDeferred, "", _rejection_of_typed)


# --- commands (PS3.7 9.3.1.1, 9.3.5.1), and an open file as PDUs ---------------------------------------------------

_MEDIUM = 0x0000


def store_command(sop_class_uid: str, sop_instance_uid: str, message_id: int) -> bytes:
    """Encode a C-STORE-RQ command set."""
    return command_set(
        {
            Element.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            Element.COMMAND_FIELD: Field.C_STORE_RQ,
            Element.MESSAGE_ID: message_id,
            Element.PRIORITY: _MEDIUM,
            Element.AFFECTED_SOP_INSTANCE_UID: sop_instance_uid,
        },
        has_data_set=True,
    )


def echo_command(sop_class_uid: str, message_id: int) -> bytes:
    """Encode a C-ECHO-RQ command set."""
    return command_set(
        {
            Element.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            Element.COMMAND_FIELD: Field.C_ECHO_RQ,
            Element.MESSAGE_ID: message_id,
        },
        has_data_set=False,
    )


def file_pdus(context_id: int, data_set: BytesIO | FileIO, size_bytes: int, max_pdu_bytes: int) -> Iterator[memoryview]:
    """Yield P-DATA-TF PDUs that carry `size_bytes` of an open file; one buffer is reused for all of them.

    Raises `DeliveryRefused` when the file is shorter than it should be.
    """
    fragment_bytes = max_pdu_bytes - FRAGMENT_HEAD_BYTES
    buffer = bytearray(P_DATA_HEAD_BYTES + min(fragment_bytes, size_bytes))
    view = memoryview(buffer)
    left = size_bytes
    while left:
        wanted = min(fragment_bytes, left)
        if data_set.readinto(view[P_DATA_HEAD_BYTES : P_DATA_HEAD_BYTES + wanted]) != wanted:
            raise DeliveryRefused("The file became shorter while it was sent; check the object store.")
        left -= wanted
        buffer[:P_DATA_HEAD_BYTES] = p_data_head(context_id, 0 if left else IS_LAST, wanted)
        yield view[: P_DATA_HEAD_BYTES + wanted]


# --- whole folders sent --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileSent:
    """What became of one file. `status` is that of the C-STORE response, `None` if there was none.

    `is_passed_over`: it is no object that could be sent, and none is missing for that.
    """

    path: Path
    sop_instance_uid: str
    status: int | None
    stored: bool
    note: str
    is_passed_over: bool = False


def send_files(paths: Iterable[Path], remote: Remote) -> Iterator[FileSent]:
    """Send files, and folders with all that is in them, in sorted order; yield one `FileSent` per file.

    What is not DICOM is reported; a DICOMDIR, which lists the other files of a medium, is passed over. When the peer is
    lost, all that remain are reported unsent.
    """
    files: list[DicomFile] = []
    for path in all_files(paths):
        try:
            file = read_dicom_file(path)
        except DeliveryRefused as error:
            yield FileSent(path, "", None, False, str(error))
            continue
        if file.sop_class_uid == MediaStorageDirectoryStorage:
            note = "A DICOMDIR, a list of other files: passed over."
            yield FileSent(path, file.sop_instance_uid, None, False, note, is_passed_over=True)
        else:
            files.append(file)
    yield from _send(files, remote)


def _send(files: Sequence[DicomFile], remote: Remote) -> Iterator[FileSent]:
    done = 0
    try:
        for group in in_groups(files, lambda file: file):
            with TypedAssociation(remote, [one for file in group for one in proposals(file)]) as association:
                for file in group:
                    sent = _store(association, file, str(remote))
                    done += 1
                    yield sent
    except DeliveryDeferred as error:
        for file in files[done:]:
            yield FileSent(file.path, file.sop_instance_uid, None, False, str(error))


def _store(association: StoreAssociation, file: DicomFile, receiver: str) -> FileSent:
    try:
        status = association.store(file)
    except DeliveryRefused as error:
        return FileSent(file.path, file.sop_instance_uid, None, False, str(error))
    failure = error_of(status, receiver, "")
    note = str(failure) if failure else note_of(status)
    return FileSent(file.path, file.sop_instance_uid, status, failure is None, note)


def all_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files named, and those in the folders named, in sorted order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        else:
            yield path
