"""The section on an OpenID provider: a server that knows the people of the house, and vouches for them here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from dicom_node.config.section import KeyFile, Seconds, SecretFile, Section, SiteFile, refused
from dicom_node.core.principal import UserRole


def _web_address(url: str) -> str:
    """Return an address that tokens may be sent to: https, or http on this machine."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or "@" in parts.netloc or parts.query or parts.fragment or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("it must begin with https://, name a host, and hold no blank, user, ? or #")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname or ""):
        raise ValueError("write https://; over http:// anybody on the way could read and change who signs in")
    return url


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


#: What a request for sign-in always holds: none of it may be overruled.
_OWN_PARAMETERS = frozenset(
    {
        "client_id", "code_challenge", "code_challenge_method", "nonce", "redirect_uri", "request", "request_uri",
        "response_mode", "response_type", "scope", "state",
    }
)  # fmt: skip


class OidcSettings(Section):
    """Sign-in by OpenID Connect."""

    issuer: str = Field(
        "",
        max_length=255,
        description="Address of the OpenID provider, as its discovery document names it; empty: no such sign-in.",
    )
    client_id: str = Field("", max_length=256, description="Who the node is there.")
    client_secret: SecretStr | None = Field(None, description="Secret of the client.")
    client_secret_file: SecretFile | None = Field(None, description="File that holds the secret instead.")
    private_key: KeyFile | None = Field(
        None,
        description="File of a private key (PEM, RSA) that signs the node in there instead of a secret "
        "(`private_key_jwt`).",
    )
    public_url: str = Field(
        "", description="Address of the node as browsers know it; `/login/oidc/callback` below it is registered there."
    )
    role_claim: str = Field(
        "roles",
        min_length=1,
        max_length=256,
        description="Claim with the roles; dots lead inwards: `realm_access.roles`.",
    )
    roles: Mapping[str, UserRole | tuple[UserRole, ...]] = Field(
        {}, description='Which value of the claim makes whom: `{ radiology = "reviewer" }`. Nobody else is let in.'
    )
    name_claim: str = Field(
        "preferred_username", min_length=1, max_length=256, description="Claim with the name shown in timelines."
    )
    scopes: str = Field("openid profile email", description="What is asked for, separated by blanks.")
    parameters: Mapping[str, str] = Field(
        {}, description='What is sent besides when somebody signs in: `{ access_type = "offline" }` for Google.'
    )
    audience: str = Field(
        "", max_length=256, description="What tokens of services must be made out to (`aud`); empty: none is taken."
    )
    access_token_type: Literal["any", "at+jwt"] = Field(
        "any",
        description="`at+jwt`: tokens of services must say in their header what they are (RFC 9068); `any`: also "
        "those that are called `JWT`, as by Keycloak and Entra, where nothing in them tells of an ID token.",
    )
    ca: SiteFile | None = Field(
        None,
        description="Authorities (PEM) that sign the provider's certificate, and no others; default: the system's.",
    )
    key_file: SiteFile | None = Field(
        None,
        description="File of the key that seals refresh tokens; default: `session-key`, generated in `data_dir`. "
        "Processes of the API on several machines share one.",
    )
    label: str = Field("Sign in with your hospital account", max_length=80, description="Text of the page's button.")
    keep_s: Seconds = Field(
        600, description="How long sessions go on while the provider is away and cannot say that they have ended."
    )

    @field_validator("issuer", "public_url")
    @classmethod
    def _is_a_web_address(cls, url: str) -> str:
        return _web_address(url) if url else url

    @field_validator("public_url")
    @classmethod
    def _has_no_path(cls, url: str) -> str:
        if url and urlsplit(url).path not in {"", "/"}:
            raise ValueError("the node answers at the root of its host; leave the path out")
        return url.rstrip("/")

    @field_validator("scopes")
    @classmethod
    def _asks_for_who_it_is(cls, scopes: str) -> str:
        """OpenID Connect Core 3.1.2.1; RFC 6749 3.3."""
        if "openid" not in scopes.split() or not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e ]*", scopes):
            raise ValueError("it must hold openid, and ASCII letters, digits and signs without quotes")
        return " ".join(scopes.split())

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.issuer:
            given = sorted(self.model_fields_set - {"issuer"})
            if given:
                raise refused("issuer", f"it is missing beside {', '.join(given)}")
            return self
        for key in ("client_id", "public_url", "roles"):
            if not getattr(self, key):
                raise refused(key, "it is missing beside issuer")
        if taken := sorted(_OWN_PARAMETERS & self.parameters.keys()):
            raise refused("parameters", f"the node sets {', '.join(taken)} itself; remove it")
        if self.client_secret and self.private_key:
            raise refused("private_key", "client_secret is set as well; keep one of the two")
        if self.audience and self.audience == self.client_id:
            raise refused("audience", "client_id is what ID tokens are made out to; tokens of services need another")
        return self

    def roles_for(self, value: str) -> frozenset[UserRole]:
        """Return what somebody is here whose claim has this value."""
        mapped = self.roles.get(value, ())
        return frozenset({mapped} if isinstance(mapped, UserRole) else mapped)
