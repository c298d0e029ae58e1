"""Who does something: a person, a program with a key, or the node itself. Every line of a timeline names one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UserRole(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who acts. `name` is what timelines show; a DICOM peer's AE title is none, for anybody can claim it."""

    name: str
    roles: frozenset[UserRole] = frozenset()


#: The node, for what it does by itself.
NODE = Principal("node")
