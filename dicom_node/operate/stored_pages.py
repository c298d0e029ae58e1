"""The report of a result as a PDF page, also where no destination wanted one: set in a process with limits.

A page that was made as an object is handed out as it was made. Another is set from what is kept: the findings, what
the index knows of the images, and a picture that was made. Equal results give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, select

from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import ArtifactKind, JobState, ResultState
from dicom_node.core.errors import NotFound
from dicom_node.index.decided.reviews import review_of, standing_review
from dicom_node.index.tables import instances
from dicom_node.index.versions import IN_USE
from dicom_node.index.views.study import artifact
from dicom_node.index.views.types import ArtifactView, ResultView
from dicom_node.sandbox.host import ProcessLimits, Sandbox
from dicom_node.storage.digest import is_damaged

_LIMITS = ProcessLimits(time_s=60.0, address_space_mb=4096, answer_mb=64)
#: Of so many images the page tells series and kernel; the number of all is told anyway.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class EnclosedPage:
    """A page that an Encapsulated PDF holds; the file is the node's own and whole."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPage:
    """What a page is set from. `images` are SOP Instance UIDs, each with what the index keeps of it."""

    job_key: str
    study_instance_uid: str
    route: str
    state: JobState
    reason: str
    message: str
    made_at: datetime
    intended_use: str
    summary: Mapping[str, Any]
    images: tuple[tuple[str, Mapping[str, str]], ...]
    picture: Path | None = None
    caption: str = ""
    #: Why the result does not hold; empty: it does.
    falls_short: str = ""
    review: Review | None = None


@dataclass(frozen=True, slots=True)
class StoredPages:
    """Sets pages. `file_of` finds the file of an object key; `intended_use` is that of the deployment."""

    file_of: Callable[[str], Path]
    intended_use: str

    def wanted(self, connection: Connection, result: ResultView) -> EnclosedPage | StoredPage:
        """Return what the page of a result is made from; that of one that does not hold says so, and is set anew."""
        falls_short = _why_not_to_be_used(result)
        made = None if falls_short else self._whole(connection, _first(result, ArtifactKind.ENCAPSULATED_PDF))
        if made is not None:
            return EnclosedPage(made)
        shown = _picture(result)
        return StoredPage(
            job_key=result.job_key, study_instance_uid=result.study_instance_uid, route=result.route,
            state=result.state, reason=result.reason, message=result.message, made_at=result.created_at,
            intended_use=self.intended_use, summary=result.summary, images=tuple(_images(connection, result)),
            picture=self._preview(connection, shown), caption=shown.description if shown else "",
            falls_short=falls_short, review=_review(connection, result),
        )  # fmt: skip

    def _whole(self, connection: Connection, made: ArtifactView | None) -> Path | None:
        """Return the file of an object, if its bytes are those that were made."""
        if made is None:
            return None
        stored = artifact(connection, made.uid)
        try:
            path = self.file_of(stored.object_key)
        except NotFound:
            return None
        return None if is_damaged(path, stored.sha256) else path

    def _preview(self, connection: Connection, shown: ArtifactView | None) -> Path | None:
        if shown is None:
            return None
        try:
            path = self.file_of(artifact(connection, shown.uid).preview_key)
        except NotFound:
            return None
        return path if path.is_file() else None


def set_page(wanted: EnclosedPage | StoredPage) -> bytes:
    """Return the PDF. Raises `InferenceError` where it cannot be set, and `WorkerDied`."""
    with Sandbox("dicom_node.operate.page_setting:page", answer=bytes, limits=_LIMITS) as sandbox:
        return cast(bytes, sandbox.run(wanted))


def _why_not_to_be_used(result: ResultView) -> str:
    if result.standing is not ResultState.CURRENT:
        said = result.standing_reason.rstrip(".")
        return f"THIS RESULT DOES NOT HOLD: {result.standing}{f' ({said})' if said else ''}."
    return f"OF A SHADOW ROUTE ({result.shadow_of}): for comparison only." if result.shadow_of else ""


def _review(connection: Connection, result: ResultView) -> Review | None:
    """Return the decision that a result tells."""
    row = standing_review(connection, result.review_of) if result.review_of else None
    return None if row is None else review_of(row)


def _first(result: ResultView, kind: ArtifactKind) -> ArtifactView | None:
    return next((one for one in result.artifacts if one.kind is kind), None)


def _picture(result: ResultView) -> ArtifactView | None:
    """Return the most telling picture: one of an image, for what the summary page says stands on this page."""
    pictures = [one for one in result.artifacts if one.has_preview]
    return next((one for one in pictures if "summary" not in one.description.lower()), None)


def _images(connection: Connection, result: ResultView) -> Iterator[tuple[str, Mapping[str, str]]]:
    kept = result.summary.get("source_sop_instance_uids")
    uids = [str(one) for one in kept] if isinstance(kept, list) else []
    columns = (instances.c.sop_instance_uid, instances.c.attributes)
    for start in range(0, len(uids), _CHUNK):
        chunk = uids[start : start + _CHUNK]
        mine = (instances.c.sop_instance_uid.in_(chunk), IN_USE)
        told = {row.sop_instance_uid: row.attributes for row in connection.execute(select(*columns).where(*mine))}
        yield from ((uid, told.get(uid, {})) for uid in chunk)
