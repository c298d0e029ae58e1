"""What all resources of one report share: who, when, which study, which model, and how to refer to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReportContext, ReportLine
from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import ModelIdentity, OrderContext, ReviewState
from dicom_node.core.errors import ReportInvalid
from dicom_node.core.uids import derived_uuid
from dicom_node.fhir.builders.dicom_values import (
    earliest_acquisition,
    fhir_instant,
    one_line,
    source_text,
    study_started,
    zone_of,
)
from dicom_node.fhir.builders.identifiers import (
    accession_identifier,
    patient_reference,
    placer_identifier,
    uuid_identifier,
)
from dicom_node.fhir.json_types import Json
from dicom_node.fhir.options import FhirOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """The elements shared by the resources of one report, as FHIR JSON where they are FHIR data types.

    `effective` is a dateTime or empty, `issued` an instant. `performer` is empty when no organisation is configured.
    `images_url` is the study's address in the PACS' DICOMweb service; `replaces` tells of the earlier result;
    `clock` is the study's, by which people are told all times as in the SR, `None` that of this machine.
    """

    model: ModelIdentity
    job_key: str
    study_instance_uid: str
    report_identifier: Json
    subject: Json
    accession: Json | None
    started: str
    effective: str
    issued: str
    organization: Json | None
    research: bool
    images_url: str
    replaces: str
    clock: tzinfo | None
    #: What the RIS has told of the order.
    order: OrderContext | None = None
    #: Its number at who placed it.
    placer: Json | None = None
    #: What the analysis is for, where somebody has said so.
    purpose: str = ""
    #: The job by which findings are tracked.
    tracked_by: str = ""
    #: The decision that the report tells, and whether one that was final is replaced by it.
    review: Review | None = None
    is_correction: bool = False

    @property
    def based_on(self) -> list[Json]:
        """The order as logical references by the numbers it has: the node never creates orders."""
        numbers = [one for one in (self.accession, self.placer) if one is not None]
        return [{"type": "ServiceRequest", "identifier": one} for one in numbers]

    @property
    def performer(self) -> list[Json]:
        """The organisation that runs the node, named only: its own record is the EHR's business."""
        return [] if self.organization is None else [self.organization]

    @property
    def title(self) -> str:
        """What the report is called."""
        kind = "AI preliminary analysis" if self.review is None else "AI analysis, reviewed"
        return f"{kind}: {self.model.name} {self.model.version}"

    @property
    def is_word_of_model(self) -> bool:
        """Whether all of it is what the model said, reviewed or not."""
        return self.review is None or self.review.state is ReviewState.ACCEPTED

    @property
    def warning(self) -> str:
        """The sentence that stands wherever a person may read the result."""
        text = "AI preliminary, not reviewed by a physician."
        if self.review is not None:
            text = one_line(self.review.sentence(self.clock))
        return f"{text} RESEARCH ONLY, not for clinical use." if self.research else text

    def full_url(self, resource_type: str, key: str = "") -> str:
        """Return the ``urn:uuid:`` under which an entry of this bundle is known to the others."""
        return derived_uuid("fhir", "entry", self.job_key, resource_type, key).urn

    def reference(self, resource_type: str, key: str = "") -> Json:
        """Return a reference to an entry of this bundle."""
        return {"reference": self.full_url(resource_type, key), "type": resource_type}


def gather_facts(answer: Analysis | NotAnalysed, context: ReportContext, options: FhirOptions) -> ReportFacts:
    """Read the shared facts from the analysed images. Raises `ReportInvalid` when there is no image to read from."""
    if not answer.sources:
        raise ReportInvalid(
            "No FHIR report can be made: the answer names no source image, so study and patient are unknown. "
            "Hand the images that were looked at to the builder."
        )
    first = answer.sources[0]
    study_instance_uid = source_text(first, "StudyInstanceUID")
    started = study_started(first, options.time_zone)
    effective = earliest_acquisition(answer.sources, options.time_zone) or started
    return ReportFacts(
        model=answer.model,
        job_key=context.job_key,
        study_instance_uid=study_instance_uid,
        report_identifier=report_identifier(study_instance_uid, *reporter(context, answer.model)),
        subject=patient_reference(first, options),
        accession=accession_identifier(first, options, context.order),
        started=started.fhir() if started else "",
        effective=effective.fhir() if effective else "",
        issued=fhir_instant(context.told_at),
        organization=_organization(options.organization or context.institution),
        research="research" in (options.intended_use, context.intended_use),
        images_url=f"{options.dicomweb_url.rstrip('/')}/studies/{study_instance_uid}" if options.dicomweb_url else "",
        replaces=_replaces(context),
        clock=zone_of(first, options.time_zone),
        order=context.order,
        purpose=context.purpose,
        placer=placer_identifier(context.order),
        tracked_by=context.tracked_by,
        review=context.review,
        is_correction=context.is_correction,
    )


def report_identifier(study_instance_uid: str, node: str, line: ReportLine) -> Json:
    """Return what a node's report of this line on this study is known by, whatever images, version or run made it."""
    return uuid_identifier("DiagnosticReport", study_instance_uid, node, line.model, line.route)


def former_identifier(study_instance_uid: str, line: ReportLine) -> Json:
    """Return what versions up to 0.2.0 knew the report by: any node with this model and route had the same."""
    return uuid_identifier("DiagnosticReport", study_instance_uid, line.model, line.route)


def reporter(context: ReportContext, model: ModelIdentity) -> tuple[str, ReportLine]:
    """Return who reports in which line."""
    line = context.line or ReportLine(model=model.name, route=context.route_name)
    return context.node_id or context.node_uid, line


def _replaces(context: ReportContext) -> str:
    earlier = context.predecessor
    return f"An earlier result of this study and route, structured report {earlier.instance_number}" if earlier else ""


def _organization(name: str) -> Json | None:
    return {"type": "Organization", "display": name} if name else None


def conditional_create(url: str, resource: Json, search: str) -> Json:
    """Return an entry that adds the resource unless the search already finds one (shared or immutable resources)."""
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": search}
    return {"fullUrl": url, "resource": resource, "request": request}


def conditional_update(url: str, resource: Mapping[str, object], search: str) -> Json:
    """Return an entry that replaces what the search finds, or adds it (resources that are the node's own)."""
    request = {"method": "PUT", "url": f"{resource['resourceType']}?{search}"}
    return {"fullUrl": url, "resource": resource, "request": request}
