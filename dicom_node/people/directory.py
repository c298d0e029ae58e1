"""Everybody who may use one node: people, programs, and who of them is signed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from dicom_node.config.incoming import PeopleSettings
from dicom_node.index.database import Database
from dicom_node.people.accounts import Accounts
from dicom_node.people.keys import Keys
from dicom_node.people.sessions import SessionLimits, Sessions


@dataclass(frozen=True, slots=True)
class People:
    """Accounts of people, keys of programs, and sessions."""

    accounts: Accounts
    keys: Keys
    sessions: Sessions

    @classmethod
    def of(cls, database: Database, settings: PeopleSettings) -> Self:
        """Return those of the node with this database."""
        limits = SessionLimits(
            idle=timedelta(minutes=settings.idle_minutes), longest=timedelta(hours=settings.session_hours)
        )
        return cls(Accounts(database), Keys(database), Sessions(database, limits))
