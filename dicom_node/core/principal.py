"""Who does something: a person, a program with a key, or the node itself. Every line of a timeline names one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class UserRole(StrEnum):
    """What somebody is here. A person may be several."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a route of the API asks for."""

    #: See studies, results, images and the state of the node.
    READ = "read"
    #: Accept, reject and correct results.
    REVIEW = "review"
    #: Bring studies, send and analyse again, withdraw, hold, decide on models.
    OPERATE = "operate"
    #: People, keys, the audit trail.
    ADMINISTER = "administer"


#: What each role may do. An administrator runs the node, and reads nobody's images for them: to review is a reviewer's.
PERMISSIONS: Mapping[UserRole, frozenset[Permission]] = {
    UserRole.VIEWER: frozenset({Permission.READ}),
    UserRole.REVIEWER: frozenset({Permission.READ, Permission.REVIEW}),
    UserRole.OPERATOR: frozenset({Permission.READ, Permission.OPERATE}),
    UserRole.ADMIN: frozenset({Permission.READ, Permission.OPERATE, Permission.ADMINISTER}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who acts. `name` is what timelines show; a DICOM peer's AE title is none, for anybody can claim it.

    `key` is empty where no two can have one name: accounts and keys of the node. Elsewhere it tells people apart.
    """

    name: str
    roles: frozenset[UserRole] = frozenset()
    key: str = ""

    @property
    def identity(self) -> str:
        """By what somebody is known from anybody else, whatever they are called: the key; the name where that is one's
        own. ALICE is alice."""
        return self.key or self.name.casefold()

    def may(self, permission: Permission) -> bool:
        """Tell whether one of the roles has this permission."""
        return any(permission in PERMISSIONS[role] for role in self.roles)


def key_at_provider(issuer: str, subject: str) -> str:
    """Return the key of whom an OpenID provider vouches for: of all claims, issuer and subject alone are one person's
    for ever (OpenID Connect Core 5.7)."""
    return "openid:" + hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:40]


#: The node, for what it does by itself.
NODE = Principal("node")
