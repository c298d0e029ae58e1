"""Whether every role of the node is at work: each process shows a sign of life on the data folder that all share."""

from __future__ import annotations

from collections.abc import Mapping

from dicom_node.roles import ROLES
from dicom_node.storage.owners import SILENT_S, Owners


def roles_not_at_work(owners: Owners) -> Mapping[str, str]:
    """Return the roles that no process of this data folder does now, and why: nobody has the role, or its process lives
    and gives no sign of it (stopped, or its machine hangs)."""
    at_work: set[str] = set()
    silent: set[str] = set()
    for owner, silence_s in owners.silences():
        (at_work if silence_s <= SILENT_S else silent).update(owner.note.get("roles", ()))
    missing = [role for role in ROLES if role not in at_work]
    return {role: _SILENT if role in silent else _nobody(role) for role in missing}


def _nobody(role: str) -> str:
    return f"no process has it; start one with dicom-node serve --role {role}"


_SILENT = f"its process has given no sign of life for {SILENT_S:g} s; look at it, and start it again"
