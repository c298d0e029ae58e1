"""Every source: does it answer a query?"""

from __future__ import annotations

from dicom_node.config.settings import Settings
from dicom_node.doctor.check import Check
from dicom_node.errors import NotFound, RetrieveError
from dicom_node.retrieve.factory import make_sources
from dicom_node.retrieve.source import Source, StudyQuery

#: An order that no PACS has; what matters is that it says so.
_NO_ORDER = StudyQuery(accession_number="DICOM-NODE-TEST")
_ADVICE = "Check the settings of this [[source]], and that the PACS allows this node to query and to retrieve."


def check_sources(settings: Settings) -> list[Check]:
    """One check per source; none is no fault, for studies may all be sent."""
    return [_check(source) for source in make_sources(settings).values()]


def _check(source: Source) -> Check:
    name = f"source {source.name}"
    try:
        source.find_studies(_NO_ORDER, 1)
    except (NotFound, RetrieveError) as error:
        return Check(name, False, str(error), _ADVICE)
    return Check(name, True, f"{source.host} answers queries")
