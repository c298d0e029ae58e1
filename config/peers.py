"""How peers are reached, whether results go to them or studies come from them: over DIMSE, and over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator

from dicom_node.config.section import (
    AeTitle,
    KeyFile,
    Port,
    SecretFile,
    Section,
    SiteFile,
    refused,
    require_private,
)


class DicomPeer(Section):
    """A peer that the node opens DICOM associations to."""

    ae_title: AeTitle = Field(description="Called AE title.")
    host: str = Field(min_length=1, description="Address of the PACS.")
    port: Port = Field(104, description="Port of the PACS.")
    tls: bool = Field(False, description="Speak TLS, showing the certificate of `[dicom_tls]` if there is one.")
    tls_ca: SiteFile | None = Field(
        None,
        validation_alias=AliasChoices("tls_ca", "ca"),
        description="Authorities (PEM) that sign its certificate; default: `dicom_tls.ca`, else the system's. "
        "It may be written `ca`.",
    )
    tls_server_name: str = Field(
        "", description="Name its certificate must bear; default: `host`; `*`: any name, if `tls_ca` signed it."
    )
    client_certificate: SiteFile | None = Field(
        None, description="Certificate with its private key (PEM) to show there instead of that of `[dicom_tls]`."
    )


class WebPeer(Section):
    """A server that the node speaks HTTP to."""

    url: str = Field(description="Its address.")
    username: str = Field("", description="User for basic authentication.")
    password: SecretStr | None = Field(None, description="Password for basic authentication.")
    password_file: SecretFile | None = Field(None, description="File that holds the password instead.")
    ca: SiteFile | None = Field(
        None, description="Authorities (PEM) that sign its certificate, and no others; default: the system's."
    )
    client_certificate: SiteFile | None = Field(
        None, description="Certificate (PEM) to show there, with its private key unless that has a file of its own."
    )
    client_certificate_key: KeyFile | None = Field(
        None, description="Private key (PEM) of `client_certificate`; nobody else may be able to read the file."
    )

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

    @model_validator(mode="after")
    def _certificates_can_be_shown(self) -> Self:
        if self.client_certificate_key and not self.client_certificate:
            raise refused("client_certificate_key", "client_certificate is missing beside it")
        if self.client_certificate and not self.client_certificate_key:
            try:
                require_private(self.client_certificate)
            except ValueError as error:
                raise refused("client_certificate", str(error)) from None
        for key in ("ca", "client_certificate"):
            if getattr(self, key) and urlsplit(self.url).scheme != "https":
                raise refused(key, "url begins with http://, where no certificate is shown; write https://")
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


class SmartWebPeer(TokenWebPeer):
    """A server that may be signed in to by SMART Backend Services: with a key instead of a secret that both know."""

    client_id: str = Field("", description="Who the node is to its OAuth server: signs in by SMART Backend Services.")
    private_key: KeyFile | None = Field(
        None,
        description="File of the private key (PEM or JWK; RSA or EC P-384) that signs for `client_id`; nobody else may "
        "be able to read it.",
    )
    next_private_key: KeyFile | None = Field(
        None,
        description="File of the key that is to follow: its public part is shown already, and it signs where the first "
        "is no longer known.",
    )
    token_url: str = Field(
        "", description="Address of the OAuth server's token endpoint; default: as `.well-known/smart-configuration`."
    )
    scopes: str = Field(
        "",
        description="What the node asks to be allowed, separated by blanks; default: what it does there, in the form "
        "that the server speaks (SMART 2 or 1).",
    )

    @property
    def needs(self) -> Mapping[str, str]:
        """What the node does there: types of resource with letters of SMART 2 (`c r u d s`); none where none fit."""
        return {}

    @field_validator("token_url")
    @classmethod
    def _token_url_is_a_web_address(cls, url: str) -> str:
        return cls._url_is_a_web_address(url) if url else url

    @field_validator("scopes")
    @classmethod
    def _scopes_fit_into_a_form(cls, scopes: str) -> str:
        """RFC 6749 3.3."""
        if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e ]*", scopes):
            raise ValueError("a scope is made of ASCII letters, digits and signs, without quotes; blanks separate them")
        return " ".join(scopes.split())

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        if self.client_id and not self.private_key:
            raise refused("client_id", "private_key is missing beside it")
        for key in ("private_key", "next_private_key", "token_url", "scopes"):
            if getattr(self, key) and not self.client_id:
                raise refused(key, "client_id is missing beside it")
        for key in ("token", "username"):
            if self.client_id and getattr(self, key):
                raise refused(key, "client_id and private_key are set as well; keep one way to sign in")
        return self
