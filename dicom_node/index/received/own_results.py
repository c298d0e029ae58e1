"""What came under the UID of a result of this node: it is known by that even where a PACS has taken the node's marks
away, it is never shown in the result's place, and where it says something else than the result, that is told."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from sqlalchemy import Connection, select

from dicom_node.core.entities import Instance
from dicom_node.core.received.rewritten import altered, says_the_same
from dicom_node.core.received.versions import NOT_COMPARED, Comparison, Difference, StoredVersion
from dicom_node.index.database import is_among
from dicom_node.index.received.corrections import named_sender, suspicions
from dicom_node.index.tables import artifacts, results
from dicom_node.index.transitions import record

#: Kind of the timeline's line.
ALTERED = "result-altered"
_LISTED = 8
_Pair: TypeAlias = tuple[StoredVersion, StoredVersion]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MadeObject:
    """An object as the node made it, and the study that it was made for."""

    stored: StoredVersion
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class AlteredResult:
    """An arrival that says something else than the result whose UID it has."""

    now: Instance
    made: MadeObject
    difference: Difference


def made_here(connection: Connection, arrivals: Sequence[Instance]) -> dict[str, MadeObject]:
    """Return those of the arrivals' UIDs that are results of this node, with what was made under them."""
    columns = (artifacts.c.uid, artifacts.c.sha256, artifacts.c.object_key, results.c.study_instance_uid)
    query = select(*columns).join(results, results.c.job_key == artifacts.c.job_key)
    rows = connection.execute(query.where(is_among(artifacts.c.uid, {one.sop_instance_uid for one in arrivals})))
    return {row.uid: MadeObject(StoredVersion(row.sha256, row.object_key), row.study_instance_uid) for row in rows}


def pairs_of(kept: Sequence[Instance], made: Mapping[str, MadeObject]) -> dict[_Pair, AlteredResult]:
    """Return those of the arrivals that are other bytes than were made under their UID, as they may be altered, by what
    is to be compared."""
    own = [(one, made[one.sop_instance_uid]) for one in kept if one.sop_instance_uid in made]
    return {
        (before.stored, StoredVersion(one.sha256, one.object_key)): AlteredResult(one, before, NOT_COMPARED)
        for one, before in own
        if one.sha256 != before.stored.sha256
    }


def uncompared(pairs: Mapping[_Pair, AlteredResult], comparison: Comparison) -> dict[_Pair, str]:
    """Return which pairs nobody has compared yet, with the study of the result."""
    return {
        (made, came): one.made.study_instance_uid
        for (made, came), one in pairs.items()
        if comparison.of(made.sha256, came.sha256) is None
    }


def tell_altered(connection: Connection, pairs: Mapping[_Pair, AlteredResult], comparison: Comparison) -> None:
    """Tell, in the timeline of the study whose result it claims to be and in the log, of each that says something else
    than what was made."""
    for (made, came), one in pairs.items():
        difference = comparison.of(made.sha256, came.sha256) or NOT_COMPARED
        if not says_the_same(difference):
            _tell(connection, replace(one, difference=difference))


def _tell(connection: Connection, one: AlteredResult) -> None:
    sender, uid = named_sender(one.now.sender), one.now.sop_instance_uid
    text = (
        f"An object with other content came under the UID of a result, sent by {sender}. It is kept, and never "
        f"shown or sent in the result's place. {' '.join(_what_differs(one.difference))}"
    )
    record(
        connection, one.made.study_instance_uid, one.now.received_at, (ALTERED, text), sop_instance_uid=uid,
        changed=list(altered(one.difference)), pixels=one.difference.pixels.value, sender=sender,
    )  # fmt: skip
    _log.warning("an object has the UID of a result and other content", extra={
        "study": one.made.study_instance_uid, "object": uid, "sender": sender,
    })  # fmt: skip


def _what_differs(difference: Difference) -> list[str]:
    if difference == NOT_COMPARED:
        return ["Whether it says what the result says could not be told."]
    keywords = altered(difference)
    more = f" and {len(keywords) - _LISTED} more" if len(keywords) > _LISTED else ""
    changed = [f"Changed: {', '.join(keywords[:_LISTED])}{more}."] if keywords else []
    return changed + suspicions([difference.pixels], [])
