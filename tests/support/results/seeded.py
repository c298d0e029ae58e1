"""An index with rows as a working node leaves them: studies in every state, results, deliveries, a timeline."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from sqlalchemy import Connection

from dicom_node.core import codes
from dicom_node.core.entities import (
    Code,
    DeliveryState,
    Finding,
    JobState,
    Measurement,
    ModelIdentity,
    Presence,
    StudyState,
)
from tests.support.results.rows import NOW, Rows, key_of

CHEST_CT = "1.2.826.0.1.3680043.8.498.101"
CHEST_XR = "1.2.826.0.1.3680043.8.498.102"
GAP_CT = "1.2.826.0.1.3680043.8.498.103"
RECEIVING = "1.2.826.0.1.3680043.8.498.104"
ANALYSING = "1.2.826.0.1.3680043.8.498.105"
HOSTILE = "1.2.826.0.1.3680043.8.498.106"
ALL_STUDIES = (CHEST_CT, CHEST_XR, GAP_CT, RECEIVING, ANALYSING, HOSTILE)

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"

CT_MODEL = ModelIdentity(
    name="ct-lung-density",
    version="1.0.0",
    manufacturer="DICOM AI node project",
    digest=hashlib.sha256(b"ct").hexdigest(),
    device_uid="2.25.1",
    parameters=("emphysema_hu=-950",),
    intended_use="Lung volume and density on chest CT of adults.",
    limits="Not for contrast-enhanced or prone scans.",
)
XR_MODEL = ModelIdentity(
    name="cxr-pneumonia",
    version="1.2.0",
    manufacturer="DICOM AI node project",
    digest=hashlib.sha256(b"xr").hexdigest(),
    device_uid="2.25.2",
    parameters=("threshold=0.5",),
    intended_use="Hint at pneumonia on frontal chest radiographs of adults.",
    limits="Not for children; probability is uncalibrated.",
)


def seed(connection: Connection, objects: Path, now: datetime = NOW) -> None:
    """Write a morning's work into an empty index."""
    rows = Rows(connection, objects, now)
    _chest_ct(rows)
    _chest_radiograph(rows)
    _ct_with_a_gap(rows)
    _unfinished(rows)
    rows.study(HOSTILE, StudyState.FAILED, 3600, reason=f"The worker died three times. {SCRIPT}")
    rows.series(HOSTILE, f"{HOSTILE}.1", 2, modality="CT", study_description=SCRIPT, series_description=SCRIPT)
    rows.event(HOSTILE, 3590, "state", f"The study is FAILED. {SCRIPT}")


def _chest_ct(rows: Rows) -> None:
    axial, lung, scout = f"{CHEST_CT}.1", f"{CHEST_CT}.2", f"{CHEST_CT}.3"
    rows.study(CHEST_CT, StudyState.REPORTED, 480)
    described = {"modality": "CT", "study_description": "CT Thorax nativ", "study_date": "20260314"}
    rows.series(CHEST_CT, scout, 2, **described, series_description="Topogramm", body_part_examined="CHEST")
    rows.series(CHEST_CT, axial, 24, **described, series_description="Thorax 1.0 Br40", body_part_examined="CHEST")
    rows.series(CHEST_CT, lung, 24, **described, series_description="Thorax 1.0 Bl57", body_part_examined="CHEST")
    rows.series(CHEST_CT, f"{CHEST_CT}.9", 1, role="OWN_RESULT", modality="SR", series_description="AI report")
    rows.superseded(CHEST_CT, axial, 3)
    rows.association(CHEST_CT, 480, 50)
    rows.event(CHEST_CT, 479, "received", "The first image arrived.")
    rows.event(CHEST_CT, 400, "state", "The study is COMPLETE. No new image for 60 s and no open association.")
    rows.event(CHEST_CT, 400, "routed", "Route chest-ct takes series 2 of 3: thinnest slices, soft-tissue kernel.")
    rows.event(CHEST_CT, 399, "started", "Analysis by ct-lung-density started.")
    rows.event(CHEST_CT, 390, "analysed", "Analysis by ct-lung-density ended: DONE.")
    rows.event(CHEST_CT, 389, "sent", "SC sent to pacs.")
    rows.event(CHEST_CT, 388, "parked", "FHIR parked for ehr: 412 Precondition Failed, two patients match.")
    decision = _decision("chest-ct", axial, (axial, 24, True), (lung, 24, True), (scout, 2, False))
    rows.job(CHEST_CT, "chest-ct", CT_MODEL.name, JobState.DONE, 400, decision=decision, job_key=key_of("chest-ct"),
             series_instance_uid=axial)  # fmt: skip
    summary = _summary(CT_MODEL, _lung_findings(), ("Series 'Thorax 1.0 Br40' was used: thinnest slices.",))
    rows.result(CHEST_CT, "chest-ct", CT_MODEL, JobState.DONE, summary=summary)
    objects = (("SC", "AI summary page", _ct_picture()), ("SEG", "Lungs", None), ("SR", "AI lung density report", None))
    for number, (kind, description, picture) in enumerate(objects, 1):
        rows.artifact("chest-ct", f"2.25.10{number}", kind, description, picture)
        rows.delivery("chest-ct", f"2.25.10{number}", "pacs", DeliveryState.COMMITTED, note="0x0000 Success")
    rows.artifact("chest-ct", "2.25.104", "FHIR", "DiagnosticReport")
    rows.delivery("chest-ct", "2.25.104", "ehr", DeliveryState.PARKED, attempts=1,
                  note="412 Precondition Failed: two patients match. Merge them in the EHR.")  # fmt: skip


def _chest_radiograph(rows: Rows) -> None:
    series = f"{CHEST_XR}.1"
    rows.study(CHEST_XR, StudyState.REPORTED, 240)
    rows.series(CHEST_XR, series, 1, modality="DX", study_description="Chest pa", study_date="20260314",
                series_description="pa erect", body_part_examined="CHEST")  # fmt: skip
    rows.association(CHEST_XR, 240, 1, sender="DR2")
    rows.event(CHEST_XR, 240, "received", "The first image arrived.")
    rows.event(CHEST_XR, 208, "analysed", "Analysis by cxr-pneumonia ended: DONE.")
    rows.job(CHEST_XR, "chest-radiograph", XR_MODEL.name, JobState.DONE, 210, job_key=key_of("chest-radiograph"),
             decision=_decision("chest-radiograph", series, (series, 1, True)), series_instance_uid=series)  # fmt: skip
    finding = Finding(
        key="pneumonia",
        label="Pneumonia",
        code=Code("233604007", "SCT", "Pneumonia"),
        site=codes.LUNG,
        presence=Presence.PRESENT,
        probability=0.87,
        threshold=0.5,
        explanation_key="heatmap:pneumonia:1",
    )
    summary = _summary(XR_MODEL, (finding,), ("Probability is not calibrated.",))
    rows.result(CHEST_XR, "chest-radiograph", XR_MODEL, JobState.DONE, summary=summary)
    rows.artifact("chest-radiograph", "2.25.201", "SC", "Influence map: Pneumonia", _heatmap())
    rows.artifact("chest-radiograph", "2.25.202", "SR", "AI chest radiograph report")
    rows.delivery("chest-radiograph", "2.25.201", "pacs", DeliveryState.SENT, note="0x0000 Success")
    rows.delivery("chest-radiograph", "2.25.202", "pacs", DeliveryState.PENDING, attempts=3,
                  note="Connection refused by pacs.local:104", next_attempt_at=rows.ago(-30))  # fmt: skip


def _ct_with_a_gap(rows: Rows) -> None:
    series = f"{GAP_CT}.1"
    message = "Slices 41 to 44 of series 'Chest 3.0' are missing (12 mm gap). Send them; the study is then run again."
    rows.study(GAP_CT, StudyState.NOT_ANALYSED, 1500, reason=message)
    rows.series(GAP_CT, series, 6, modality="CT", study_description="CT Chest follow-up", study_date="20260314",
                series_description="Chest 3.0", body_part_examined="CHEST")  # fmt: skip
    rows.association(GAP_CT, 1500, 6, outcome="aborted")
    rows.event(GAP_CT, 1500, "received", "The first image arrived.")
    rows.event(GAP_CT, 1400, "analysed", f"Analysis by ct-lung-density ended: NOT_ANALYSABLE. {message}")
    rows.job(GAP_CT, "chest-ct", CT_MODEL.name, JobState.NOT_ANALYSABLE, 1400, reason="GAP_IN_SERIES", message=message,
             job_key=key_of("gap"), decision=_decision("chest-ct", series, (series, 6, True)),
             series_instance_uid=series)  # fmt: skip
    summary = {"mark": "AI result - NOT VERIFIED.", "model": asdict(CT_MODEL), "notes": [], "findings": []}
    rows.result(GAP_CT, "gap", CT_MODEL, JobState.NOT_ANALYSABLE, reason="GAP_IN_SERIES", message=message,
                summary=summary)  # fmt: skip
    rows.artifact("gap", "2.25.301", "SR", "AI not performed")
    rows.delivery("gap", "2.25.301", "pacs", DeliveryState.COMMITTED)


def _unfinished(rows: Rows) -> None:
    rows.study(RECEIVING, StudyState.RECEIVING, 25)
    rows.series(RECEIVING, f"{RECEIVING}.1", 14, modality="CT", study_description="CT Thorax Abdomen")
    rows.association(RECEIVING, 25, 14, outcome="")
    rows.event(RECEIVING, 25, "received", "The first image arrived.")
    rows.study(ANALYSING, StudyState.ANALYSING, 90)
    rows.series(ANALYSING, f"{ANALYSING}.1", 30, modality="CT", study_description="Low dose lung screening")
    rows.job(ANALYSING, "chest-ct", CT_MODEL.name, JobState.RUNNING, 20)
    rows.event(ANALYSING, 19, "started", "Analysis by ct-lung-density started.")


def _decision(route: str, chosen: str, *candidates: tuple[str, int, bool]) -> Mapping[str, Any]:
    return {
        "route_name": route,
        "matched": True,
        "chosen": chosen,
        "tie": False,
        "reason": f"Route {route} chose series {chosen}, the first of {len(candidates)} by the order of the model.",
        "candidates": [
            {
                "series_instance_uid": uid,
                "instances": number,
                "meets_route": True,
                "meets_model": fits,
                "clauses": [
                    {"attribute": "modality", "condition": "is CT", "actual": "CT", "holds": True, "asked_by": "route"},
                    {"attribute": "instances", "condition": "is at least 5", "actual": str(number), "holds": fits,
                     "asked_by": "model"},
                ],
                "rank_values": ["slice_thickness=1.0", "convolution_kernel=Br40"],
            }
            for uid, number, fits in candidates
        ],
    }  # fmt: skip


def _lung_findings() -> Sequence[Finding]:
    figures = {"left-lung": (codes.LEFT, 2412.0, -861.0, 3.4), "right-lung": (codes.RIGHT, 2790.0, -858.0, 12.8)}
    laa = Code("LAA950", "99AINODE", "Low attenuation area below -950 HU")
    return [
        Finding(
            key=key,
            label=f"{side.meaning} lung",
            code=codes.LUNG,
            site=codes.LUNG,
            laterality=side,
            segment_number=number,
            measurements=(
                Measurement(codes.VOLUME, volume_ml, codes.MILLILITER),
                Measurement(Code("MEAN", "99AINODE", "Mean attenuation"), mean_hu, codes.HOUNSFIELD_UNIT),
                Measurement(laa, laa_percent, codes.PERCENT),
            ),
        )
        for number, (key, (side, volume_ml, mean_hu, laa_percent)) in enumerate(figures.items(), 1)
    ]


def _summary(model: ModelIdentity, findings: Sequence[Finding], notes: Sequence[str]) -> Mapping[str, Any]:
    return {
        "mark": "AI result - NOT VERIFIED. Decision support only.",
        "state": "DONE",
        "model": asdict(model),
        "node_version": "0.1.0",
        "notes": list(notes),
        "findings": [asdict(finding) for finding in findings],
        "stage_times_s": {"read": 1.2, "gate": 0.1, "model": 5.9, "pictures": 0.8},
        "took_s": 8.0,
    }


def _ct_picture() -> Image.Image:
    image = Image.new("RGB", (512, 512), "black")
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 90, 472, 430), fill=(96, 96, 96))
    draw.ellipse((80, 130, 240, 390), fill=(24, 24, 30), outline=(230, 120, 40), width=4)
    draw.ellipse((272, 130, 432, 390), fill=(24, 24, 30), outline=(40, 150, 230), width=4)
    draw.text((12, 490), "AI RESULT - NOT VERIFIED", fill=(255, 210, 80))
    return image


def _heatmap() -> Image.Image:
    image = Image.new("RGB", (512, 512), (30, 30, 30))
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 40, 452, 480), fill=(110, 110, 110))
    draw.ellipse((100, 80, 235, 400), fill=(45, 45, 45))
    draw.ellipse((277, 80, 412, 400), fill=(45, 45, 45))
    for radius, colour in ((60, (200, 60, 40)), (40, (240, 140, 40)), (20, (255, 230, 90))):
        draw.ellipse((330 - radius, 310 - radius, 330 + radius, 310 + radius), fill=colour)
    draw.text((12, 490), "AI RESULT - NOT VERIFIED", fill=(255, 210, 80))
    return image
