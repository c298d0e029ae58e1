"""Reads the reports that have come, finds the study of each, and forgets their texts when that is wanted.

A text is read in a process with limits: whatever a stranger wrote costs one report, and no log line has a word of it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import Connection

from dicom_node.assist.texts.lexicon import LANGUAGES
from dicom_node.assist.texts.reader import TextToRead
from dicom_node.core.assessment.report_reading import ReportReading
from dicom_node.core.entities import ReportMatch
from dicom_node.core.errors import InferenceError, WorkerDied
from dicom_node.core.metrics.table import CONCORDANCE, REPORTS_READ
from dicom_node.core.metrics.tally import TALLY
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.reports.compared import ComparedFilter, compared_findings
from dicom_node.index.reports.kept import (
    PendingReport,
    forget_texts,
    forget_unmatched,
    note_read,
    note_unread,
    pending_reports,
)
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_AT_ONCE = 50
_LIMITS = ProcessLimits(time_s=20.0, address_space_mb=1024)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """What the site says of its reports; `settings` section `reports`."""

    #: Who gave out the numbers of images that name nobody.
    patient_authority: str
    languages: tuple[str, ...] = LANGUAGES
    keep_text_days: float = 0.0
    unmatched_days: float = 30.0


class TextReader:
    """Reads texts in a child process that starts with the first."""

    def __init__(self, languages: tuple[str, ...] = LANGUAGES) -> None:
        self._languages = languages
        self._sandbox = Sandbox("dicom_node.assist.texts.reader:read", answer=ReportReading, limits=_LIMITS)

    def read(self, text: str) -> ReportReading:
        """Return what a text says. Raises `WorkerDied` and `InferenceError` for one that broke its reader."""
        return cast("ReportReading", self._sandbox.run(TextToRead(text, self._languages)))

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()


class ReportSweep:
    """Looks at every report that is due; safe to run twice, and to be killed anywhere."""

    def __init__(self, database: Database, read: Callable[[str], ReportReading], options: ReadingOptions) -> None:
        self._database = database
        self._read = read
        self._options = options

    def run(self) -> None:
        """Read what nobody has read, and hold it against the studies that are here."""
        with self._database.read() as connection:
            pending = pending_reports(connection, now_in(connection), _AT_ONCE)
        became = Counter(self._look_at(one) for one in pending)
        for outcome, count in became.items():
            TALLY.count(REPORTS_READ, count, outcome=outcome)
        if became:
            _log.info("reports looked at", extra=dict(became))
        with self._database.write() as connection:
            self._forget(connection, now_in(connection))

    def _look_at(self, pending: PendingReport) -> str:
        try:
            reading = pending.reading or self._read(pending.text)
        except (WorkerDied, InferenceError) as error:
            _log.error("a report broke its reader", extra={"report": pending.report_key, "why": type(error).__name__})
            with self._database.write() as connection:
                why = "Its text ended the process that reads reports."
                note_unread(connection, pending, why, now_in(connection))
            return "unread"
        with self._database.write() as connection:
            match, uid = note_read(connection, pending, reading, self._options.patient_authority, now_in(connection))
        if match is ReportMatch.MATCHED:
            for one in compared_findings(self._database, ComparedFilter(study_instance_uid=uid)):
                TALLY.count(CONCORDANCE, model=one.model, verdict=one.verdict)
        return match.lower() if match else "changed"

    def _forget(self, connection: Connection, now: datetime) -> None:
        options = self._options
        forget_texts(connection, now - timedelta(days=options.keep_text_days))
        forget_unmatched(connection, now - timedelta(days=options.unmatched_days))
