"""Receiver of alarms of kind ``webhook``: signed as events are, so that one receiver may take both."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from dicom_node.core.alarms.telling import AlarmMessage
from dicom_node.deliver.alarms.kind import AlarmKind
from dicom_node.deliver.kinds.webhook import SignedWebPeer
from dicom_node.deliver.outgoing import OutgoingEvent


class WebhookAlarm(SignedWebPeer, AlarmKind):
    """A web server that is told of alarms by signed POST (Standard Webhooks), as destinations of this kind are told of
    events; the type is `alarm.` and what became of it."""

    kind: Literal["webhook"] = Field(description="How alarms get there.")

    def send(self, message: AlarmMessage, timeout_s: float) -> None:
        """Post it."""
        from dicom_node.deliver.connections.web import authentication, verification  # noqa: PLC0415
        from dicom_node.deliver.senders.webhook import WebhookSender  # noqa: PLC0415 - settings must load fast

        body = json.dumps(message.as_event(), ensure_ascii=False, separators=(",", ":"))
        sender = WebhookSender(self.url, self.signing_keys, authentication(self), timeout_s, verification(self))
        for sent in sender.send([OutgoingEvent(message.id, body)]):
            if sent.error is not None:
                raise sent.error
