"""Whether what a person changes is still as they saw it: two who change one thing at once do not overwrite each other.

A version is a short text that is another after every change by a person. What changes a route or a suspension takes
its turn here first, so that nothing comes between the look and the change.
"""

from __future__ import annotations

from datetime import UTC

from sqlalchemy import Connection

from dicom_node.core.errors import ChangedMeanwhile
from dicom_node.index.database import take_turn
from dicom_node.index.decided.route_edits import RouteEdit
from dicom_node.index.outbox.destinations import Suspension

#: As an expected version: whatever it is by now, if only it is there.
ANY = "*"
#: As an expected version: there is none of this name.
ABSENT = ""
_TURN = 0x64696E6F6466


def take_turn_to_change(connection: Connection) -> None:
    """Return when no other transaction changes a route or a suspension, until the end of this one."""
    take_turn(connection, _TURN)


def version_of(suspension: Suspension | None, edit: RouteEdit | None = None) -> str:
    """Return the version of a destination, or of a route with its newest edit, as people have left it."""
    since = f"{suspension.since.astimezone(UTC):%Y%m%dT%H%M%S%f}" if suspension and suspension.by else "active"
    return f"{edit.version if edit else 0}-{since}"


def require_version(
    expected: str | None, what: str, is_there: bool, suspension: Suspension | None, edit: RouteEdit | None = None
) -> None:
    """Do nothing where `what` ("Route chest-ct") is as expected; `None`: nobody said how they saw it.

    Raises `ChangedMeanwhile` with who changed it, as far as the index knows.
    """
    if expected is None or (expected == ANY and is_there) or (expected == ABSENT and not is_there):
        return
    if expected in (ANY, ABSENT):
        found = "there is one by now" if is_there else "there is none"
        raise ChangedMeanwhile(f"{what}: {found}. Look at the routes again, and repeat what you want on what is there.")
    if is_there and expected == version_of(suspension, edit):
        return
    told = _changes(what, expected, suspension, edit)
    raise ChangedMeanwhile(f"{told} Nothing was done. Look at it again, and repeat what you want on what is there now.")


def _changes(what: str, expected: str, suspension: Suspension | None, edit: RouteEdit | None) -> str:
    """Say what is another than `expected`, and whose doing it is."""
    edited, _, standing = expected.partition("-")
    told = [f"{what} was changed meanwhile."]
    if edit is not None and str(edit.version) != edited:
        done = "wrote it anew" if edit.settings is not None else "went back to the configuration file's"
        told.append(f"{edit.edited_by} {done} on {edit.at.astimezone():%Y-%m-%d %H:%M %Z}: {edit.reason.rstrip('.')}.")
    if suspension is not None and suspension.by and not version_of(suspension).endswith(f"-{standing}"):
        since = f"{suspension.since.astimezone():%Y-%m-%d %H:%M %Z}"
        told.append(f"{suspension.by} suspended it on {since}: {suspension.reason.rstrip('.')}.")
    if (suspension is None or not suspension.by) and standing != "active":
        told.append("It is not suspended any more; the audit trail says who resumed it.")
    return " ".join(told)
