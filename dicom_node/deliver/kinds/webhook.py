"""Destination kind ``webhook``: a web server that is told of events, signed after the Standard Webhooks scheme."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from dicom_node.config.outgoing import INCLUDE, PatientAttribute
from dicom_node.config.peers import TokenWebPeer
from dicom_node.config.section import SecretFile, refused
from dicom_node.core.calls.limits import is_loopback
from dicom_node.core.outputs.capability_match import WantedOutputs
from dicom_node.deliver.kinds.kind import Answer, Caller, DestinationKind

if TYPE_CHECKING:
    from dicom_node.deliver.outgoing import EventSender

_PREFIX = "whsec_"
_HOW = f"a secret is {_PREFIX} and the base64 of 24 to 64 random bytes; during a rotation there are two, one a line"


class SignedWebPeer(TokenWebPeer):
    """A web server that is told of something by signed POST (Standard Webhooks). `url` is where it goes, and only
    there."""

    secret: SecretStr | None = Field(
        None, description="Secret that signs, `whsec_…`; two, one a line, during a rotation."
    )
    secret_file: SecretFile | None = Field(None, description="File that holds the secret instead.")
    plain_http: bool = Field(False, description="Send over `http://` to other machines, too.")

    @field_validator("secret")
    @classmethod
    def _secret_is_one(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            keys_in(secret.get_secret_value())
        return secret

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.secret is None:
            raise refused("secret_file", f"it is missing, and so is secret; {_HOW}")
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not self.plain_http and not is_loopback(parts.hostname or ""):
            raise refused("url", "events leave this machine over https:// only; or set plain_http = true")
        return self

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The keys that sign, the newest first."""
        assert self.secret is not None
        return keys_in(self.secret.get_secret_value())


class WebhookDestination(SignedWebPeer, DestinationKind):
    """A web server that is told of events by signed POST (Standard Webhooks). `url` is where they go, and only there.

    It gets no objects. A route that names it has it hear of that route's results; where none does, it hears of all.
    """

    kind: Literal["webhook"] = Field(description="How events get there.")
    include: tuple[PatientAttribute, ...] = Field((), description=INCLUDE)

    @property
    def takes(self) -> frozenset[str]:
        """No object."""
        return frozenset()

    @property
    def told_in_events(self) -> tuple[str, ...]:
        """As the settings say."""
        return self.include

    def sender(self, caller: Caller) -> EventSender:
        """Return what posts events."""
        from dicom_node.deliver.connections.web import authentication, verification  # noqa: PLC0415
        from dicom_node.deliver.senders.webhook import WebhookSender  # noqa: PLC0415 - settings must load fast

        return WebhookSender(self.url, self.signing_keys, authentication(self), caller.timeout_s, verification(self))

    def check(self, caller: Caller, wanted: WantedOutputs) -> Answer:  # noqa: ARG002 - it gets no objects
        """Find out whether it answers; no event is sent, and whether it knows the secret cannot be asked."""
        from dicom_node.deliver.checks import check_webhook  # noqa: PLC0415

        return check_webhook(self, caller.timeout_s)

    def reach(self, caller: Caller) -> None:
        """Ask whether it answers."""
        from dicom_node.deliver.checks import reach_webhook  # noqa: PLC0415

        reach_webhook(self, caller.timeout_s)


def keys_in(text: str) -> tuple[bytes, ...]:
    """Return the keys that secrets hold, one in each line; the first is the newest. Raises `ValueError`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 1 <= len(lines) <= 2:
        raise ValueError(_HOW)
    return tuple(map(_key, lines))


def _key(line: str) -> bytes:
    try:
        key = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(_HOW) from None
    if not line.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(_HOW)
    return key
