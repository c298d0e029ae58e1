"""What is sent, what came of it, and what a sender is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dicom_node.core.entities import AboutResult, Artifact
from dicom_node.core.errors import DeliveryError


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A finished object, the file that holds its bytes, and what is told of the result it belongs to.

    `is_withdrawal` says that it takes back the objects of that result. Nothing is told where nobody could be.
    """

    artifact: Artifact
    path: Path
    about: AboutResult | None = None
    is_withdrawal: bool = False


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event, and the JSON that tells it, the same at every attempt."""

    id: str
    body: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one object, or of the event with this id: delivered when `error` is `None`; `note` is for the
    timeline.

    `warning` is the status of a C-STORE (PS3.4 GG.4.2) or the reason of a STOW-RS (PS3.18 I.2.2) that stored it, but
    not as it was sent.
    """

    artifact_uid: str
    error: DeliveryError | None
    note: str
    warning: int | None = None


@dataclass(frozen=True, slots=True)
class SentObject:
    """An object that a destination has taken, as it is asked for: where it belongs, what it is, and its bytes."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    uid: str
    kind: str
    media_type: str
    sha256: str
    #: The file that holds its bytes; they may be gone by now.
    path: Path


class Sender(Protocol):
    """Delivers objects to one destination, in the given order.

    It is made anew for each batch; what is refused or put off is an error of the item it belongs to::

        def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
            for item in items:
                try:
                    self._client.upload(item.path)
                except ConnectionError as error:
                    yield Sent(item.artifact.uid, DeliveryDeferred(f"{self._name} is away: {error}."), "")
                else:
                    yield Sent(item.artifact.uid, None, "stored")
    """

    def send(self, items: Sequence[Outgoing]) -> Iterator[Sent]:
        """Yield one `Sent` per item as it completes; a lost destination defers all that remain. Never raises."""
        ...


class EventSender(Protocol):
    """Tells one destination of events, in the given order; made and used as `Sender` is."""

    def send(self, items: Sequence[OutgoingEvent]) -> Iterator[Sent]:
        """Yield one `Sent` per event as it completes. Never raises."""
        ...
