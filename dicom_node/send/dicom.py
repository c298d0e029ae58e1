"""Deliver objects to a PACS by C-STORE: one association, the contexts they need, the stored bytes unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_node.errors import DeliveryDeferred, DeliveryError, DeliveryRefused
from dicom_node.send.association import Association
from dicom_node.send.dicom_file import DicomFile, read_dicom_file
from dicom_node.send.negotiation import Remote, in_groups, proposals
from dicom_node.send.outgoing import Outgoing, Sent
from dicom_node.send.statuses import advice_for, error_of, note_of


@dataclass(frozen=True, slots=True)
class DicomSender:
    """A C-STORE user for one destination; `timeout_s` bounds each wait for it."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Send in order. When the association is lost, the object at hand and all that remain are deferred.

        An object whose bytes cannot be read, or that no context was accepted for, is refused on its own.
        """
        remote = Remote(self.host, self.port, self.called_ae_title, self.calling_ae_title, self.timeout_s)
        readable: list[tuple[Outgoing, DicomFile]] = []
        for item in items:
            try:
                readable.append((item, read_dicom_file(item.path)))
            except DeliveryRefused as error:
                yield Sent(item.artifact.uid, error, "")
        yield from _send_readable(remote, readable)


def _send_readable(remote: Remote, readable: Sequence[tuple[Outgoing, DicomFile]]) -> Iterator[Sent]:
    done = 0
    try:
        for group in in_groups(readable, lambda pair: pair[1]):
            with Association(remote, [one for _, file in group for one in proposals(file)]) as association:
                for item, file in group:
                    sent = _store(association, item, file, str(remote))
                    done += 1
                    yield sent
    except DeliveryDeferred as error:
        for item, _ in readable[done:]:
            yield Sent(item.artifact.uid, error, "")


def _store(association: Association, item: Outgoing, file: DicomFile, receiver: str) -> Sent:
    kind = item.artifact.kind
    error: DeliveryError | None
    try:
        status = association.store(file)
    except DeliveryRefused as refusal:
        return Sent(item.artifact.uid, DeliveryRefused(f"{refusal} {advice_for(kind)}"), "")
    error = error_of(status, receiver, kind)
    return Sent(item.artifact.uid, error, "" if error else note_of(status))
