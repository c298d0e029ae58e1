"""Which software made the report, from which images, with which weights.

R4 Provenance has no identifier. So that a bundle sent twice leaves one, it carries the job as tag and is created only
if no Provenance with that tag exists (`_tag` is a search parameter of every resource). A re-run is another job and
adds its own Provenance to the new version of the report.
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node import PRODUCT_NAME, __version__
from dicom_node.fhir.facts import ReportFacts, conditional_create
from dicom_node.fhir.identifiers import JOB_SYSTEM, MODEL_DIGEST_SYSTEM, dicom_uid
from dicom_node.fhir.json_types import Json, without_empty
from dicom_node.fhir.terms import ASSEMBLER, CREATED


def provenance_entry(facts: ReportFacts, node_uid: str, observation_urls: Sequence[str]) -> Json:
    """Return the Provenance of the report and its Observations."""
    node = {"type": "Device", "identifier": dicom_uid(node_uid), "display": f"{PRODUCT_NAME} {__version__}"}
    who = [facts.reference("Device"), node]
    provenance = {
        "resourceType": "Provenance",
        "meta": {"tag": [{"system": JOB_SYSTEM, "code": facts.job_key}]},
        "target": [facts.reference("DiagnosticReport"), *({"reference": url} for url in observation_urls)],
        "recorded": facts.issued,
        "activity": CREATED,
        "agent": [without_empty({"type": ASSEMBLER, "who": one, "onBehalfOf": facts.organization}) for one in who],
        "entity": [
            {"role": "source", "what": facts.reference("ImagingStudy")},
            {"role": "source", "what": _weights(facts)},
        ],
    }
    return conditional_create(facts.full_url("Provenance"), provenance, f"_tag={JOB_SYSTEM}|{facts.job_key}")


def _weights(facts: ReportFacts) -> Json:
    model = facts.model
    return {
        "identifier": {"system": MODEL_DIGEST_SYSTEM, "value": model.digest},
        "display": f"{model.name} {model.version}: weights and configuration (sha256)",
    }
