"""Receiver of alarms of kind ``email``: by SMTP over TLS whose certificate is checked, from the first byte or by
STARTTLS (RFC 3207, 8314). Without TLS only to this machine's own mail server."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from dicom_node.config.section import Port, SecretFile, SiteFile, refused
from dicom_node.core.alarms.telling import AlarmMessage
from dicom_node.core.calls.limits import is_loopback
from dicom_node.deliver.alarms.kind import AlarmKind

_ADDRESS = re.compile(r"[^\s@<>,;]{1,64}@[^\s@<>,;]{1,190}")
_PORTS = {"implicit": 465, "starttls": 587, "none": 25}


class EmailAlarm(AlarmKind):
    """People who are told of alarms by e-mail. One message at a time, to all of `to`."""

    kind: Literal["email"] = Field(description="How alarms get there.")
    host: str = Field(min_length=1, description="Mail server that takes the messages.")
    port: Port = Field(0, description="Its port; 0: 465 with `implicit`, 587 with `starttls`, 25 with `none`.")
    tls: Literal["implicit", "starttls", "none"] = Field(
        "starttls", description="TLS from the first byte, or by STARTTLS; `none` only to this machine."
    )
    ca: SiteFile | None = Field(
        None, description="Authorities (PEM) that sign its certificate, and no others; default: the system's."
    )
    username: str = Field("", description="User to log in with; empty: no login.")
    password: SecretStr | None = Field(None, description="Password of that user.")
    password_file: SecretFile | None = Field(None, description="File that holds the password instead.")
    sender: str = Field(description="Address that the messages come from.")
    to: tuple[str, ...] = Field(min_length=1, description="Addresses of those who are told.")

    @field_validator("sender", "to")
    @classmethod
    def _addresses_are_addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """Nothing else may come into a header."""
        for one in (value,) if isinstance(value, str) else value:
            if not one.isascii() or not _ADDRESS.fullmatch(one):
                raise ValueError(f"{one!r} is no address; write it as alarms@hospital.example")
        return value

    @model_validator(mode="after")
    def _nothing_goes_in_the_clear(self) -> Self:
        if self.tls == "none" and not is_loopback(self.host):
            raise refused("tls", "alarms and passwords leave this machine by TLS only; write starttls or implicit")
        if self.tls == "none" and self.ca:
            raise refused("ca", 'tls = "none" shows no certificate')
        if self.username and self.password is None:
            raise refused("username", "password_file is missing beside it")
        if self.password is not None and not self.username:
            raise refused("password_file", "username is missing beside it")
        return self

    def send(self, message: AlarmMessage, timeout_s: float) -> None:
        """Hand it to the mail server."""
        from dicom_node.deliver.alarms.smtp import MailServer  # noqa: PLC0415 - settings must load fast

        password = self.password.get_secret_value() if self.password else ""
        server = MailServer(
            self.host, self.port or _PORTS[self.tls], self.tls, self.ca, (self.username, password), timeout_s
        )
        server.send(message, self.sender, self.to)
