"""Asks an EHR for the reports on analysed studies: few at a time, ever less often, and not while it is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from dicom_node.core.entities import OrderNumber, PatientNumber, StatedReport
from dicom_node.core.errors import DeliveryDeferred, DeliveryError
from dicom_node.core.metrics.table import REPORT_SEARCHES
from dicom_node.core.metrics.tally import TALLY
from dicom_node.fhir.client.reports import FoundReport, SoughtStudy
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.reports.kept import is_known, keep_report
from dicom_node.index.reports.searches import SearchTimes, StudyToAsk, note_search, studies_to_ask

#: So many studies are asked for in one run; with the time between two runs that is ten searches a minute at most.
_AT_ONCE = 5
_FIRST_PAUSE = timedelta(hours=2)
#: For so long an EHR that does not answer is left alone.
_AWAY_S = 600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """Where is asked, and in which identifier systems the site's numbers are."""

    destination: str
    times: SearchTimes
    patient_authority: str
    patient_system: str
    issuers: Mapping[str, str]
    accession_system: str

    def system_of(self, patient: PatientNumber) -> str:
        """Return the identifier system of a patient's number; empty where the site names none for its issuer."""
        own = self.patient_system if patient.authority == self.patient_authority or not self.issuers else ""
        return self.issuers.get(patient.authority, own)


class ReportSearch:
    """Looks for reports and keeps them as if somebody had sent them; safe to run twice."""

    def __init__(
        self, database: Database, find: Callable[[SoughtStudy], Sequence[FoundReport]], options: SearchOptions
    ) -> None:
        self._database = database
        self._find = find
        self._options = options
        self._quiet_until = 0.0

    def run(self) -> None:
        """Ask for the studies that are due."""
        if time.monotonic() < self._quiet_until:
            return
        options = self._options
        with self._database.read() as connection:
            wanted = studies_to_ask(connection, options.times, options.patient_authority, now_in(connection), _AT_ONCE)
        for one in wanted:
            try:
                found = self._ask(one)
            except DeliveryDeferred as error:
                self._failed(error)
                self._quiet_until = time.monotonic() + _AWAY_S
                return
            except DeliveryError as error:  # this study's: its patient is not there, or more than one
                self._failed(error)
                found = []
            self._keep(one, found)

    def _failed(self, error: DeliveryError) -> None:
        TALLY.count(REPORT_SEARCHES, outcome="failed")
        _log.warning("search for reports failed", extra={"destination": self._options.destination, "why": str(error)})

    def _ask(self, one: StudyToAsk) -> Sequence[FoundReport]:
        system = "" if one.patient is None else self._options.system_of(one.patient)
        if one.patient is None or not system:
            return []
        sought = SoughtStudy(
            study_instance_uid=one.study_instance_uid, patient_system=system, patient_number=one.patient.value,
            accession_system=self._options.accession_system, accession_number=one.accession_number,
        )  # fmt: skip
        found = self._find(sought)
        TALLY.count(REPORT_SEARCHES, outcome="found" if found else "none")
        return found

    def _keep(self, one: StudyToAsk, found: Sequence[FoundReport]) -> None:
        name = self._options.destination
        with self._database.write() as connection:
            now = now_in(connection)
            for report in (_stated(name, one, each) for each in found):
                if not is_known(connection, report):
                    keep_report(connection, report, now)
            note_search(connection, one, _FIRST_PAUSE, now)


def _stated(name: str, one: StudyToAsk, found: FoundReport) -> StatedReport:
    return StatedReport(
        source=name, number=OrderNumber(value=found.number, authority=name), status=found.status,
        stated_at=found.stated_at, patients=(one.patient,) if one.patient else (), text=found.text,
        accession_number=one.accession_number, study_instance_uid=one.study_instance_uid,
    )  # fmt: skip
