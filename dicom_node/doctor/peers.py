"""Every destination and every source: does it answer, and will it take what the node sends?"""

from __future__ import annotations

from dicom_node.config.settings import Settings
from dicom_node.core.errors import NotFound, RetrieveError
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.doctor.check import TIMEOUT_S, Check
from dicom_node.retrieve.kinds import make_sources
from dicom_node.retrieve.source import Source, StudyQuery

#: An order that no PACS has; what matters is that it says so.
_NO_ORDER = StudyQuery(accession_number="DICOM-NODE-TEST")
_ADVICE = "Check the settings of this [[source]], and that the PACS allows this node to query and to retrieve."


def check_destinations(settings: Settings) -> list[Check]:
    """One check per destination; none configured is a finding too, for results then go nowhere."""
    if not settings.destination:
        advice = "Add a [[destination]]; until then results are only on the node's own page."
        return [Check("destinations", False, "none is configured", advice)]
    caller = Caller(settings.node.ae_title, TIMEOUT_S, settings.dicom_tls)
    checks = []
    for one in destinations_of(settings):
        answer = one.check(caller, one.wanted(settings.results.sr_sop_class))
        checks.append(Check(f"destination {one.name}", answer.ok, answer.text, answer.advice))
    return checks


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
