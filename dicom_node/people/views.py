"""Accounts and keys as they are shown: never a hash, never a digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from dicom_node.core.principal import UserRole
from dicom_node.index.people.accounts import Account
from dicom_node.index.people.keys import ApiKey


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """One person who may sign in. `has_password` is false for one who cannot by a password."""

    name: str
    roles: Sequence[UserRole]
    has_password: bool
    created_at: datetime
    password_changed_at: datetime | None
    disabled_at: datetime | None
    display_name: str = ""
    identifier: str = ""

    @classmethod
    def of(cls, account: Account) -> Self:
        """Show an account."""
        return cls(
            name=account.name, roles=sorted(account.roles), has_password=account.password_hash is not None,
            created_at=account.created_at, password_changed_at=account.password_changed_at,
            disabled_at=account.disabled_at, display_name=account.display_name, identifier=account.identifier,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """One key. `last_used_at` is right to some minutes; a revoked key stays in the list."""

    name: str
    roles: Sequence[UserRole]
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Show a key."""
        return cls(
            name=key.name, roles=sorted(key.roles), created_by=key.created_by, created_at=key.created_at,
            expires_at=key.expires_at, last_used_at=key.last_used_at, revoked_at=key.revoked_at,
        )  # fmt: skip
