"""Who typed the command, as the operating system knows them."""

from __future__ import annotations

import getpass
import os

from dicom_node.core.principal import Principal, UserRole


def os_user() -> str:
    """Return the user, and who became that user by sudo: ``alice as root``."""
    user, before = getpass.getuser(), os.environ.get("SUDO_USER", "")
    return f"{before} as {user}" if before and before != user else user


def actor() -> Principal:
    """Return who acts, for the timeline. Whoever may open the database may do everything."""
    return Principal(f"cli:{os_user()}", frozenset({UserRole.ADMIN}))
