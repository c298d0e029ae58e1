"""How peers are reached, whether results go to them or studies come from them: over DIMSE, and over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator

from dicom_node.config.section import AeTitle, Port, SecretFile, Section, SitePath, refused


class DicomPeer(Section):
    """A peer that the node opens DICOM associations to."""

    ae_title: AeTitle = Field(description="Called AE title.")
    host: str = Field(min_length=1, description="Address of the PACS.")
    port: Port = Field(104, description="Port of the PACS.")
    tls: bool = Field(False, description="Speak TLS, showing the certificate of `[dicom_tls]` if there is one.")
    tls_ca: SitePath | None = Field(
        None,
        validation_alias=AliasChoices("tls_ca", "ca"),
        description="Authorities (PEM) that sign its certificate; default: `dicom_tls.ca`, else the system's. "
        "It may be written `ca`.",
    )
    tls_server_name: str = Field(
        "", description="Name its certificate must bear; default: `host`; `*`: any name, if `tls_ca` signed it."
    )
    client_certificate: SitePath | None = Field(
        None, description="Certificate with its private key (PEM) to show there instead of that of `[dicom_tls]`."
    )


class WebPeer(Section):
    """A server that the node speaks HTTP to."""

    url: str = Field(description="Its address.")
    username: str = Field("", description="User for basic authentication.")
    password: SecretStr | None = Field(None, description="Password for basic authentication.")
    password_file: SecretFile | None = Field(None, description="File that holds the password instead.")

    @field_validator("url")
    @classmethod
    def _url_is_a_web_address(cls, url: str) -> str:
        """User and password have keys of their own: addresses end up in logs."""
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if re.search(r"[\x00-\x20\x7f]", url):
            raise ValueError("an address holds no blanks, line ends or other invisible characters")
        if not is_usable or "@" in parts.netloc:
            raise ValueError(
                "it must begin with https:// (or http://), name a host, and hold no user or password; set token, or "
                "username and password, beside it"
            )
        return url

    @model_validator(mode="after")
    def _a_password_has_its_user(self) -> Self:
        if self.password_file and not self.username:
            raise refused("password_file", "username is missing beside it")
        return self

    @property
    def further_headers(self) -> Mapping[str, str]:
        """Headers that the site wants in every request; their values may be secrets."""
        return {}


class TokenWebPeer(WebPeer):
    """A server that may be logged in to with a bearer token (RFC 6750)."""

    token: SecretStr | None = Field(None, description="Bearer token.")
    token_file: SecretFile | None = Field(None, description="File that holds the token instead.")

    @field_validator("token")
    @classmethod
    def _token_fits_into_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[\x21-\x7e]*", token.get_secret_value()):
            raise ValueError(
                "it holds characters that no bearer token has: blanks, line ends, or letters beyond ASCII; copy the "
                "token again, alone, into token or the file of token_file"
            )
        return token
