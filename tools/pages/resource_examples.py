"""FHIR resources for the documentation, made by the code of the images and findings that the HL7 messages tell of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from dicom_node.analysis.context import Predecessor, ReplacedResult
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind, Presence
from dicom_node.deliver.kinds.fhir import FhirDestination, FhirPreset
from dicom_node.fhir.adaptation import adapted, with_link
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.facts import reporter
from dicom_node.fhir.builders.identifiers import JOB_SYSTEM
from dicom_node.fhir.builders.resources.document import document_entry
from dicom_node.fhir.builders.resources.provenance import revising
from dicom_node.fhir.builders.retraction import Retraction, retraction_bundle
from dicom_node.fhir.client.reconciliation import update_of
from dicom_node.fhir.json_types import Json
from tests.support.results import fhir_examples as examples
from tools.pages.message_examples import reviewed_example

_LINK = f"https://viewer.example/?StudyInstanceUIDs={examples.STUDY_UID}"
_FINDINGS = (examples.FINDINGS[0], examples.FINDINGS[3])
#: Where a line of JSON ends, and how much is shown of what no person reads.
_WIDTH, _SHOWN = 118, 24
#: The report as a server might hold it when a later result comes.
_THERE: Json = {"resourceType": "DiagnosticReport", "id": "4711", "meta": {"versionId": "1"}}


def resource_examples() -> str:
    """A result, whole and as two presets fit it, as a reader has verified it, one that replaces it, one that was not
    made, and a withdrawal."""
    first = dict(build_bundle(examples.analysis(findings=_FINDINGS), examples.CONTEXT, _written(1), examples.OPTIONS))
    none = _fitted(dict(build_bundle(examples.not_analysed(), examples.CONTEXT, (), examples.OPTIONS)), "base")
    us_core = _entry(_fitted(first, "us-core"), "DiagnosticReport")
    document = document_entry(_fitted(first, "documents"))
    report, *others = _withdrawal(first)["entry"]
    return "\n\n".join([
        _shown("A result", *_fitted(first, "base")["entry"]),
        _shown('Its report with `preset = "us-core"`', us_core),
        _shown('Its report with `preset = "documents"`', document),
        _shown("The same result, reviewed", *_reviewed()),
        _shown("A result that replaces it", *_later()),
        _shown("A study that was not analysed", *(_entry(none, kind) for kind in ("Observation", "DiagnosticReport"))),
        _shown("A withdrawal", report),
        "Besides, as they were sent but for their status:",
        "\n".join(f"- `{_request(one)}`: `{one['resource']['status']}`" for one in others),
    ])  # fmt: skip


def _fitted(bundle: Json, preset: FhirPreset) -> Json:
    """Return the Bundle as a destination with this preset and a viewer gets it."""
    ehr = {"name": "ehr", "kind": "fhir", "url": "https://ehr.example/fhir", "preset": preset}
    return adapted(with_link(bundle, _LINK), FhirDestination.model_validate(ehr).fhir_profile)


def _entry(bundle: Json, kind: str) -> Json:
    found: Json = next(one for one in bundle["entry"] if one["resource"]["resourceType"] == kind)
    return found


def _written(run: int) -> tuple[WrittenObject, ...]:
    """Return the objects of a run: heat map, report and page, each with a UID of its own."""
    heatmap, report = examples.written_objects()
    page = examples.radiograph(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", SeriesInstanceUID=f"{examples.STUDY_UID}.10", Modality="DOC",
        EncapsulatedDocument=b"%PDF-1.7 of an example, cut off here.\n",
    )  # fmt: skip
    pdf = WrittenObject(kind=ArtifactKind.ENCAPSULATED_PDF, dataset=page, order=2, description="AI report, to print")
    for one in (heatmap, report, pdf):
        one.dataset.SOPInstanceUID = f"{one.dataset.SeriesInstanceUID}.{run}"
        one.dataset.InstanceNumber = str(run)
    return heatmap, report, pdf


def _reviewed() -> Iterator[Json]:
    """Yield what is sent of a reviewed result: an Observation that stands, one that does not, report and Provenance."""
    answer = examples.analysis(findings=_FINDINGS)
    context = replace(
        examples.CONTEXT, job_key="c" * 64, review=reviewed_example(answer),
        replaced=(ReplacedResult(job_key=examples.JOB_KEY),),
    )  # fmt: skip
    bundle = _fitted(dict(build_bundle(answer, context, (), examples.OPTIONS)), "base")
    told = {"Observation", "DiagnosticReport", "Provenance"}
    yield from (one for one in bundle["entry"] if one["resource"]["resourceType"] in told)


def _later() -> Iterator[Json]:
    """Yield what a later run sends of its report and Provenance where version 1 of the report lies on the server."""
    heatmap, report, pdf = _written(1)
    former = Predecessor(
        sop_class_uid=report.dataset.SOPClassUID, sop_instance_uid=report.dataset.SOPInstanceUID,
        series_instance_uid=report.dataset.SeriesInstanceUID, instance_number=1,
    )  # fmt: skip
    uids = tuple(one.dataset.SOPInstanceUID for one in (heatmap, report, pdf))
    replaced = ReplacedResult(job_key=examples.JOB_KEY, object_uids=uids)
    started = examples.STARTED_AT + timedelta(hours=1)
    context = replace(examples.CONTEXT, job_key="b" * 64, started_at=started, predecessor=former, replaced=(replaced,))
    absent = replace(_FINDINGS[0], presence=Presence.ABSENT, probability=0.12)
    later = build_bundle(examples.analysis(findings=(absent,)), context, _written(2), examples.OPTIONS)
    changed, told = (_entry(_fitted(dict(later), "base"), kind) for kind in ("DiagnosticReport", "Provenance"))
    yield {**changed, "resource": {"id": _THERE["id"], **changed["resource"]}, "request": update_of(_THERE)}
    job = {"system": JOB_SYSTEM, "value": examples.JOB_KEY}
    version = {"reference": "DiagnosticReport/4711/_history/1", "identifier": job}
    yield {**told, "resource": revising(told["resource"], version)}


def _withdrawal(bundle: Json) -> Json:
    node, line = reporter(examples.CONTEXT, examples.MODEL)
    return retraction_bundle(Retraction(
        study_instance_uid=examples.STUDY_UID, node=node, line=line, job_keys=[examples.JOB_KEY], bundles=[bundle],
        reason="The images are of another patient.", at=examples.STARTED_AT + timedelta(hours=2),
    ))  # fmt: skip


# --- JSON for people -------------------------------------------------------------------------------------------------


def _shown(title: str, *entries: Json) -> str:
    return "\n\n".join([f"### {title}", *map(_shown_entry, entries)])


def _shown_entry(entry: Json) -> str:
    head = f"**{entry['resource']['resourceType']}**, `{entry['fullUrl']}`, by `{_request(entry)}`"
    return f"{head}\n\n```json\n{_text(_cut(entry['resource']), 0)}\n```"


def _request(entry: Json) -> str:
    asked = entry["request"]
    condition = [f"{key}: {asked[key]}" for key in ("ifNoneExist", "ifMatch") if key in asked]
    return ", ".join([f"{asked['method']} {asked['url']}", *condition])


def _cut(node: Any) -> Any:
    """Return the node with the Base64 of attachments cut, and told how much was."""
    if isinstance(node, list):
        return [_cut(one) for one in node]
    if not isinstance(node, dict):
        return node
    cut = {key: _cut(value) for key, value in node.items()}
    return cut | {"data": f"{node['data'][:_SHOWN]}… (cut here)"} if "contentType" in node and "data" in node else cut


def _text(node: Any, indent: int, before: int = 0) -> str:
    """Return JSON that keeps on one line what fits there behind the `before` letters of its key."""
    whole = json.dumps(node, ensure_ascii=False)
    if not isinstance(node, dict | list) or not node or indent + before + len(whole) <= _WIDTH:
        return whole
    inner = indent + 2
    keys = [f"{json.dumps(key)}: " for key in node] if isinstance(node, dict) else [""] * len(node)
    values = node.values() if isinstance(node, dict) else node
    lines = [f"{' ' * inner}{key}{_text(value, inner, len(key))}" for key, value in zip(keys, values, strict=True)]
    opening, closing = "{}" if isinstance(node, dict) else "[]"
    return "\n".join([opening, ",\n".join(lines), f"{' ' * indent}{closing}"])
