"""Where a report comes from: the software with its weights (Device), the images (Endpoint), and the run (Provenance).

R4 Provenance has no identifier. So that a bundle sent twice leaves one, it carries the job as tag and is created only
if no Provenance with that tag exists (`_tag` is a search parameter of every resource). A re-run is another job and
adds its own Provenance to the new version of the report: one that names as revised (R4 provenance-entity-role) the
version that it replaces, which only the client can know, and the DICOM objects that show the earlier results.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dicom_node import PRODUCT_NAME, __version__
from dicom_node.analysis.context import ReportContext
from dicom_node.core.codes import ARTIFICIAL_INTELLIGENCE
from dicom_node.fhir.builders.dicom_values import one_line
from dicom_node.fhir.builders.facts import ReportFacts, conditional_create, former_identifier, reporter
from dicom_node.fhir.builders.identifiers import (
    DICOM_UID_SYSTEM,
    JOB_SYSTEM,
    MODEL_DIGEST_SYSTEM,
    URI_SYSTEM,
    dicom_uid,
    query,
    uuid_identifier,
)
from dicom_node.fhir.builders.terms import AI_ASSERTED, ASSEMBLER, CREATED, REVISED, STUDY, VERIFIER, WADO_RS, concept
from dicom_node.fhir.builders.verification import practitioner
from dicom_node.fhir.json_types import Json, without_empty

#: What stands beside the reference to the version of a report that another replaces.
_FORMER = "The report as it was before a later analysis of the study replaced it"
_REVIEWED = {"text": "A physician has reviewed what the model had said, and changed it."}
_REVISES = {"text": "A later analysis of the study replaces the earlier result, which holds no more."}


def provenance_entry(facts: ReportFacts, context: ReportContext, observation_urls: Sequence[str]) -> Json:
    """Return the Provenance of the report and its Observations."""
    node = {"type": "Device", "identifier": dicom_uid(context.node_uid), "display": f"{PRODUCT_NAME} {__version__}"}
    who = [facts.reference("Device"), node]
    provenance = {
        "resourceType": "Provenance",
        "meta": {"tag": [{"system": JOB_SYSTEM, "code": facts.job_key}]},
        "target": [facts.reference("DiagnosticReport"), *({"reference": url} for url in observation_urls)],
        "recorded": facts.issued,
        "activity": CREATED,
        "reason": [{"coding": [AI_ASSERTED]}] if facts.is_word_of_model else [_REVIEWED],
        "agent": [
            *(without_empty({"type": ASSEMBLER, "who": one, "onBehalfOf": facts.organization}) for one in who),
            *_verifiers(facts),
        ],
        "entity": [
            {"role": "source", "what": facts.reference("ImagingStudy")},
            {"role": "source", "what": _weights(facts)},
            {"role": "derivation", "what": facts.reference("DocumentReference")},
            *({"role": "revision", "what": one} for one in [*_replaced_objects(context), *_former(facts, context)]),
        ],
    }
    return conditional_create(facts.full_url("Provenance"), provenance, f"_tag={JOB_SYSTEM}|{facts.job_key}")


def _verifiers(facts: ReportFacts) -> list[Json]:
    """Return who has reviewed the result, and the organisation that each did it for."""
    readers = facts.review.readers if facts.review else ()
    return [
        without_empty({
            "type": VERIFIER, "who": practitioner(who),
            "onBehalfOf": {"display": one_line(who.organization)} if who.organization else None,
        })
        for who, _ in readers
    ]  # fmt: skip


def revising(provenance: Json, former: Json) -> Json:
    """Return a Provenance that names as revised `former`, a reference to the version of the report it replaces.

    Without one it names none: what the EHR never had was not revised there.
    """
    others = [one for one in provenance["entity"] if not _is_former(one)]
    if not former:
        return {**provenance, "entity": others}
    entity = {"role": "revision", "what": {"type": "DiagnosticReport", "display": _FORMER, **former}}
    reasons = [*provenance.get("reason", ()), _REVISES]
    return {**provenance, "activity": REVISED, "reason": reasons, "entity": [*others, entity]}


def _replaced_objects(context: ReportContext) -> list[Json]:
    """Return the objects of the results that this one replaces, as the image archive knows them; what is kept of a
    reviewed one is not replaced."""
    kept = {one.sop_instance_uid for one in context.kept}
    uids = dict.fromkeys(uid for one in context.replaced for uid in one.object_uids if uid not in kept)
    return [{"identifier": dicom_uid(uid)} for uid in uids]


def _former(facts: ReportFacts, context: ReportContext) -> list[Json]:
    """Return what the replaced report may be known by: its jobs, and what versions up to 0.2.0 called it.

    The client puts the version that the EHR has in their place.
    """
    if not context.replaced:
        return []
    jobs = [{"system": JOB_SYSTEM, "value": one.job_key} for one in context.replaced]
    named = [former_identifier(facts.study_instance_uid, reporter(context, facts.model)[1]), *jobs]
    return [{"type": "DiagnosticReport", "identifier": one} for one in named]


def former_reports(provenance: Json) -> tuple[set[str], set[str]]:
    """Return the job keys, and as ``system|value`` the former identifiers, of the report that is replaced.

    Of a bundle of an earlier version there are none.
    """
    named = [one["what"]["identifier"] for one in provenance.get("entity", ()) if _is_former(one)]
    jobs = {one["value"] for one in named if one["system"] == JOB_SYSTEM}
    return jobs, {f"{one['system']}|{one['value']}" for one in named if one["system"] == URI_SYSTEM}


def _is_former(entity: Json) -> bool:
    is_report: bool = entity["what"].get("type") == "DiagnosticReport"
    return is_report and entity["role"] == "revision"


def replaced_uids(entities: Collection[Json]) -> set[str]:
    """Return the SOP Instance UIDs that the entities of a Provenance of the node name as revised."""
    revised = (one["what"].get("identifier", {}) for one in entities if one.get("role") == "revision")
    return {one["value"].removeprefix("urn:oid:") for one in revised if one.get("system") == DICOM_UID_SYSTEM}


def _weights(facts: ReportFacts) -> Json:
    model = facts.model
    return {
        "identifier": {"system": MODEL_DIGEST_SYSTEM, "value": model.digest},
        "display": f"{model.name} {model.version}: weights and configuration (sha256)",
    }


# --- Device --------------------------------------------------------------------------------------------------------


def device_entry(facts: ReportFacts) -> Json:
    """Return the Device, created only if the server has none with its UID."""
    model = facts.model
    identifier = dicom_uid(model.device_uid)
    notes = [f"Intended use: {model.intended_use}" if model.intended_use else "", model.limits]
    device = without_empty(
        {
            "resourceType": "Device",
            "identifier": [identifier],
            "status": "active",
            "manufacturer": model.manufacturer,
            "deviceName": [{"name": model.name, "type": "model-name"}],
            "type": concept(ARTIFICIAL_INTELLIGENCE),
            "version": [
                {"type": {"text": "model version"}, "value": model.version},
                {"type": {"text": "sha256 of weights and configuration"}, "value": model.digest},
            ],
            "note": [{"text": one_line(note)} for note in notes if note.strip()],
        }
    )
    return conditional_create(facts.full_url("Device"), device, query(identifier))


# --- Endpoint ------------------------------------------------------------------------------------------------------


def endpoint_entry(facts: ReportFacts, dicomweb_url: str) -> Json:
    """Return the Endpoint of this address, created only if the server has none."""
    identifier = uuid_identifier("Endpoint", dicomweb_url)
    endpoint: Json = {
        "resourceType": "Endpoint",
        "identifier": [identifier],
        "status": "active",
        "connectionType": WADO_RS,
        "payloadType": [concept(STUDY)],
        "payloadMimeType": ["application/dicom"],
        "address": dicomweb_url,
    }
    return conditional_create(facts.full_url("Endpoint"), endpoint, query(identifier))
