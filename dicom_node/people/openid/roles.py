"""What somebody may do here, read from what an OpenID provider says of them.

Providers write roles down in different ways: Keycloak below `realm_access` and `resource_access`, Entra as `roles` or
`groups`, Google not at all. The claim is named in the settings, and its values are mapped to the node's roles there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dicom_node.config.openid import OidcSettings
from dicom_node.core.errors import SignInDenied
from dicom_node.core.principal import UserRole

#: More values than anybody maps; what comes after is not looked at.
_MOST_VALUES = 2000
#: What timelines and sessions have room for, and how much of it the provider's host may take.
_LONGEST_NAME, _LONGEST_HOST = 128, 60
_UNSEEN = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def has_roles(claims: Mapping[str, Any], settings: OidcSettings) -> bool:
    """Tell whether the claim with the roles is there, or said to be somewhere else; it may be empty."""
    return any(True for _ in _found(claims, settings.role_claim)) or _is_elsewhere(claims, settings.role_claim)


def roles_in(claims: Mapping[str, Any], settings: OidcSettings) -> frozenset[UserRole]:
    """Return the node's roles of whom these claims speak. Raises `SignInDenied` where there is none, and says why."""
    if settings.role_claim == "email" and claims.get("email_verified") is not True:
        raise SignInDenied(
            "The provider does not say that the address is verified (email_verified), so that anybody could claim it. "
            "Verify it there, or map another claim (oidc.role_claim)."
        )
    if _is_elsewhere(claims, settings.role_claim):
        raise SignInDenied(
            f"The provider left {settings.role_claim} out, because this account is in too many groups (groups overage "
            "of Entra). Let it send only the groups assigned to the application, or use app roles: "
            'role_claim = "roles".'
        )
    values = [value for found in _found(claims, settings.role_claim) for value in _values(found)][:_MOST_VALUES]
    roles = frozenset[UserRole]().union(*map(settings.roles_for, values))
    if not roles:
        what = "has no value that is mapped" if values else "is missing or empty"
        raise SignInDenied(
            f"This account has no role here: its claim {settings.role_claim} {what} (oidc.roles). Ask who looks after "
            "accounts to assign one."
        )
    return roles


def name_in(claims: Mapping[str, Any], names: Sequence[str], issuer: str) -> str:
    """Return the name that timelines show, from the first of these claims that holds one.

    It ends in the provider's host, so that no local account looks like it. Raises `SignInDenied` where none holds one.
    """
    for claim in names:
        value = claims.get(claim)
        seen = _UNSEEN.sub("", value).strip() if isinstance(value, str) else ""
        if seen:
            host = f" ({(urlsplit(issuer).hostname or '')[:_LONGEST_HOST]})"
            return seen[: _LONGEST_NAME - len(host)] + host
    raise SignInDenied(f"The provider tells no name (claims {', '.join(names)}).")


def _found(claims: object, path: str) -> Iterator[object]:
    """Yield what is at a path; names of claims and clients may hold dots themselves."""
    if not isinstance(claims, Mapping):
        return
    if path in claims:
        yield claims[path]
    for dot in re.finditer(r"\.", path):
        first, rest = path[: dot.start()], path[dot.end() :]
        if first in claims:
            yield from _found(claims[first], rest)


def _values(found: object) -> Iterator[str]:
    """Yield the single values of a list, or of a string that may hold several."""
    if isinstance(found, str):
        yield found
        several = re.split(r"[\s,]+", found)
        if len(several) > 1:
            yield from several
    elif isinstance(found, list):
        yield from (one for one in found if isinstance(one, str))


def _is_elsewhere(claims: Mapping[str, Any], claim: str) -> bool:
    """OpenID Connect Core 5.6.2: a claim may be left to another server; Entra does so with more than 200 groups."""
    names = claims.get("_claim_names")
    return claim not in claims and isinstance(names, Mapping) and claim in names
