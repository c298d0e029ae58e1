"""Reports on storage commitments that the node asked for, on associations of the PACS's own: to the index, answered."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable

from dicom_node.deliver.dispatch.proof import taken
from dicom_node.dimse.commitment_scu import read_report
from dicom_node.dimse.vocabulary import EventStatus
from dicom_node.end import VitalThread
from dicom_node.index.database import Database
from dicom_node.receive.channel import AnswerReport, ReportReceived

_END_S = 5.0
_log = logging.getLogger(__name__)


class ProofReports:
    """Takes what the acceptor hears, one report after the other, in a thread of its own.

    A report is answered when what follows from it is committed in the database: whoever dies in between has not
    answered, and the PACS reports again, or is asked.
    """

    def __init__(
        self,
        database: Database,
        heard: queue.SimpleQueue[ReportReceived | None],
        answer: Callable[[AnswerReport], None],
    ) -> None:
        self._database = database
        self._heard = heard
        self._answer = answer
        self._thread = VitalThread(self._run, "proof-reports")

    def start(self) -> None:
        """Begin to take reports."""
        self._thread.start()

    def stop(self) -> None:
        """End after the report at hand."""
        self._heard.put(None)
        self._thread.join(_END_S)

    def _run(self) -> None:
        while (report := self._heard.get()) is not None:
            self._answer(AnswerReport(report.ticket, self._status_of(report)))

    def _status_of(self, said: ReportReceived) -> int:
        told_by = f"{said.calling_ae_title}@{said.host}"
        try:
            return taken(self._database, read_report(said.data_set, said.transfer_syntax_uid, told_by))
        except ValueError as error:
            _log.warning("report of a storage commitment cannot be read", extra={"by": told_by, "why": str(error)})
        except Exception:  # noqa: BLE001 - the door for reports: one that fails must not end the others
            _log.exception("report of a storage commitment failed unexpectedly", extra={"by": told_by})
        return EventStatus.PROCESSING_FAILURE
