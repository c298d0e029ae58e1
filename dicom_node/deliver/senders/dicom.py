"""Deliver objects to a PACS by C-STORE: one association, the contexts they need, the stored bytes unchanged."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryError, DeliveryRefused, DestinationAway
from dicom_node.deliver.outgoing import Outgoing, Sent
from dicom_node.dimse.dicom_file import DicomFile, read_dicom_file
from dicom_node.dimse.negotiation import Remote, in_groups, proposals
from dicom_node.dimse.statuses import advice_for, error_of, note_of, warning_of
from dicom_node.dimse.storage_scu import StoreAssociation

_ASSOCIATIONS_TRIED = 2

_Readable = tuple[Outgoing, DicomFile]


@dataclass(frozen=True, slots=True)
class DicomSender:
    """A C-STORE user for one destination."""

    remote: Remote

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Send in order. When the peer cannot be reached, or does not let the node in, all that remain are deferred.

        An association lost over one object defers that object; the others get one fresh association, so that an
        object the peer chokes on does not hold back the rest for ever.
        An object whose bytes cannot be read, or that no context was accepted for, is refused on its own.
        """
        readable: list[_Readable] = []
        for item in items:
            try:
                readable.append((item, read_dicom_file(item.path)))
            except DeliveryRefused as error:
                yield Sent(item.artifact.uid, error, "")
        yield from _send_readable(self.remote, readable)


def _send_readable(remote: Remote, readable: Sequence[_Readable]) -> Iterator[Sent]:
    left = deque(readable)
    lost: DeliveryDeferred | None = None
    for _ in range(_ASSOCIATIONS_TRIED):
        waiting = len(left)
        lost = yield from _send_until_lost(remote, left)
        if lost is None or len(left) == waiting:
            break
    for item, _file in left:
        yield Sent(item.artifact.uid, lost, "")


def _send_until_lost(remote: Remote, left: deque[_Readable]) -> Generator[Sent, None, DeliveryDeferred | None]:
    """Send and take from `left` until all is sent or the association is lost; return why it was lost."""
    for group in in_groups(tuple(left), lambda pair: pair[1]):
        at_hand: Outgoing | None = None
        try:
            with StoreAssociation(remote, [one for _, file in group for one in proposals(file)]) as association:
                for item, file in group:
                    at_hand, _ = left.popleft()
                    yield _store(association, item, file, str(remote))
                    at_hand = None
        except DeliveryDeferred as error:
            if at_hand is None:
                return error if isinstance(error, CredentialsRefused) else DestinationAway(str(error))
            yield Sent(at_hand.artifact.uid, error, "")
            return error
    return None


def _store(association: StoreAssociation, item: Outgoing, file: DicomFile, receiver: str) -> Sent:
    kind = item.artifact.kind
    error: DeliveryError | None
    try:
        status = association.store(file)
    except DeliveryRefused as refusal:
        return Sent(item.artifact.uid, type(refusal)(f"{refusal} {advice_for(kind)}"), "")
    error = error_of(status, receiver, kind)
    if error:
        return Sent(item.artifact.uid, error, "")
    return Sent(item.artifact.uid, None, note_of(status), warning_of(status))
