"""What is asked of a PACS, what it tells, and what a source is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dicom_node.retrieve.sink import RetrieveSink, WantedStudy


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuery:
    """Which studies to look for; empty means any. `date` is YYYYMMDD or a range of two, as DICOM writes it."""

    patient_id: str = ""
    accession_number: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStudy:
    """A study as the PACS describes it, without the patient. Counts are `None` where it does not tell."""

    study_instance_uid: str
    accession_number: str
    study_date: str
    description: str
    modalities: Sequence[str]
    series: int | None
    instances: int | None


class Source(Protocol):
    """A PACS that studies can be fetched from. Safe to share between threads: each call opens its own connection.

    A source hands each object to `arrivals` as it comes, which makes it durable, indexes and counts it::

        def fetch(self, wanted: WantedStudy, arrivals: RetrieveSink) -> None:
            files = self._files_of(wanted)
            if not files:
                raise NotFound(f"{self.name} has no study {wanted.study_instance_uid}. Check the UID.")
            arrivals.counts.expect(len(files))
            for file in files:
                names = Names(file.sop_class_uid, file.sop_instance_uid, file.transfer_syntax_uid)
                require_room(arrivals.take(names, file.pieces()), self.name)
    """

    @property
    def name(self) -> str:
        """How the configuration calls it."""
        ...

    @property
    def ae_title(self) -> str:
        """Who is said to have sent what comes from here."""
        ...

    @property
    def host(self) -> str:
        """Where it is."""
        ...

    def find_studies(self, query: StudyQuery, limit: int) -> Sequence[FoundStudy]:
        """Return at most `limit` studies. Raises `SourceUnavailable` and `SourceRefused`."""
        ...

    def fetch(self, wanted: WantedStudy, arrivals: RetrieveSink) -> None:
        """Fetch a study and hand every object to `arrivals`.

        Raises `NotFound` when the source has no such study, `SourceUnavailable` when it fell silent, `SourceRefused`
        when it says no.
        """
        ...
