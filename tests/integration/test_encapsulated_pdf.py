"""The PDF report as its readers see it: text by pdftotext, fonts by pdffonts, and the marks of an archive document."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.entities import ArtifactKind, Code, Finding, Measurement
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.sr_writer import to_part10, write_objects
from tests.support import needs
from tests.support.results import analysis_examples as examples
from tests.support.validators import objects as validators

PDF = OutputSet(encapsulated_pdf=True, structured_report="off", secondary_capture=False, segmentation="off")
MARKUP = r"#panic() *b* _i_ $x$ [c] @ref <l> // \ `r` = ~ #{1} \u{41} % ' &amp;"


def document_of(answer: Analysis | NotAnalysed, **changes: Any) -> Dataset:
    context = examples.context(output_sets=(PDF,), **changes)
    (written,) = (one for one in write_objects(answer, context) if one.kind is ArtifactKind.ENCAPSULATED_PDF)
    return written.dataset


def pdf_of(answer: Analysis | NotAnalysed, **changes: Any) -> bytes:
    dataset = document_of(answer, **changes)
    return bytes(dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength])


def ask(program: str, pdf: bytes, folder: Path, *options: str) -> str:
    """Return what a program of poppler says of the document."""
    path = folder / "report.pdf"
    path.write_bytes(pdf)
    arguments = [needs.tool(program, "poppler-utils"), *options, str(path)]
    return subprocess.run(arguments, capture_output=True, check=True, text=True).stdout


def text_of(pdf: bytes, folder: Path) -> str:
    """Return the text with its lines joined, as a reader follows it."""
    path = folder / "report.pdf"
    path.write_bytes(pdf)
    arguments = [needs.tool("pdftotext", "poppler-utils"), "-layout", str(path), "-"]
    said = subprocess.run(arguments, capture_output=True, check=True, text=True).stdout
    return " ".join(said.split())


def eighteen_findings() -> tuple[Finding, ...]:
    first, second, third, *_ = examples.radiograph_analysis().findings
    return (first, second, *(replace(third, key=f"f{n}", label=f"Evaluated disease {n}") for n in range(16)))


def test_each_finding_is_on_the_page_with_presence_score_and_threshold(tmp_path: Path) -> None:
    text = text_of(pdf_of(examples.radiograph_analysis()), tmp_path)
    for row in (
        "Pneumonia PRESENT 83.2 % 50.0 %",
        "Pleural effusion (right) PRESENT 61.0 % 50.0 %",
        "Pneumothorax ABSENT 3.1 % 40.0 %",
        "Pulmonary edema UNDETERMINED",
    ):
        assert row in text
    for said in (
        "AI - NOT VERIFIED",
        "2 of 4 findings PRESENT",
        "Looked at: 1 image, CR",
        "Not verified: a physician must review the images. Deployed for decision support. Model not calibrated.",
        "cxr-pneumonia 1.0.0",
        "9f" * 32,
        "Scores are not calibrated",
        "threshold=0.5",
        "Trained on children aged 1 to 5",
        "Influence map: Pneumonia",
        "The only frontal view was used.",
    ):
        assert said in text


def test_each_measurement_is_on_the_page_with_its_unit(tmp_path: Path) -> None:
    text = text_of(pdf_of(examples.ct_analysis()), tmp_path)
    assert "Right lung Left lung" in text
    assert "Volume 2411 ml 2103.5 ml" in text
    assert re.search(r"Attenuation Coefficient -846\.2 HU -846\.2 HU", text)
    for said in ("-950 HU", "Lung density", "Key slice 5 of 8", "Not validated for contrast-enhanced scans."):
        assert said in text


def test_a_page_without_any_finding_clears_nobody(tmp_path: Path) -> None:
    *_, absent, _ = examples.radiograph_analysis().findings
    text = text_of(pdf_of(examples.radiograph_analysis(findings=(absent,), saliencies=())), tmp_path)
    assert "NOTHING FOUND of what was looked for" in text
    assert "Looked for: 1 finding, listed below. Other disease is not excluded." in text


def test_a_page_of_what_was_not_analysed_says_so_and_why(tmp_path: Path) -> None:
    text = text_of(pdf_of(examples.not_analysed()), tmp_path)
    for said in ("AI ANALYSIS NOT PERFORMED", "This is not a negative result", "GAP_IN_SERIES", "gap of 10.0 mm"):
        assert said in text
    assert "Findings" not in text
    assert "ABSENT" not in text
    assert "NOTHING FOUND" not in text


def test_a_partial_answer_and_research_use_are_said_at_the_top(tmp_path: Path) -> None:
    text = text_of(pdf_of(examples.radiograph_analysis(partial=True), intended_use="research"), tmp_path)
    assert text.startswith("AI - NOT VERIFIED - RESEARCH ONLY")
    assert "PARTIAL: only part of the study could be assessed." in text


def test_the_page_names_no_patient(tmp_path: Path) -> None:
    pdf = pdf_of(examples.radiograph_analysis())
    told = text_of(pdf, tmp_path) + ask("pdfinfo", pdf, tmp_path)
    for secret in ("Muller", "Müller", "ller", "PID-0001", "ACC-77", "1970", "Anna", "Thorax"):
        assert secret not in told


def test_signs_that_are_markup_to_the_typesetter_print_as_they_are(tmp_path: Path) -> None:
    first, *_ = examples.radiograph_analysis().findings
    finding = replace(first, label=MARKUP)
    model = replace(examples.CXR_MODEL, limits=MARKUP, name="#import *")
    answer = examples.radiograph_analysis(findings=(finding,), model=model, notes=(MARKUP,))
    text = text_of(pdf_of(answer), tmp_path)
    assert text.replace(" ", "").count(MARKUP.replace(" ", "")) >= 2
    assert "#import * 1.0.0" in text


def test_letters_no_font_of_the_page_has_do_not_stop_it(tmp_path: Path) -> None:
    first, *_ = examples.radiograph_analysis().findings
    answer = examples.radiograph_analysis(findings=(replace(first, label="肺炎 ≥ Pneumonie"),))
    assert "?? >= Pneumonie PRESENT" in text_of(pdf_of(answer), tmp_path)


def test_eighteen_findings_and_long_limits_still_fit_one_page_whole(tmp_path: Path) -> None:
    limits = "Not for people with devices in the chest, and not after surgery. " * 40
    answer = examples.radiograph_analysis(
        findings=eighteen_findings(), model=replace(examples.CXR_MODEL, limits=f"{limits}The end.")
    )
    pdf = pdf_of(answer)
    text = text_of(pdf, tmp_path)
    assert "Pages: 1" in " ".join(ask("pdfinfo", pdf, tmp_path).split())
    for number in range(16):
        assert f"Evaluated disease {number} ABSENT" in text
    assert "The end." in text
    assert "left out" not in text


def test_what_no_page_can_hold_is_left_out_by_the_page_saying_so(tmp_path: Path) -> None:
    present, _, absent, *_ = examples.radiograph_analysis().findings
    volume = examples.ct_analysis().findings[0]
    many = tuple(replace(absent, key=f"a{n}", label=f"Disease {n} " + "of a long name " * 5) for n in range(90))
    quantities = tuple(
        Measurement(Code(f"{n}", "99T", f"Quantity {n}"), n + 0.5, Code("mm", "UCUM", "mm")) for n in range(40)
    )
    measured = tuple(replace(volume, key=f"m{n}", measurements=quantities) for n in range(6))
    pdf = pdf_of(examples.ct_analysis(findings=(*many, *measured, replace(present, explanation_key=None)),
                                      notes=("Said at length. " * 100,) * 12))  # fmt: skip
    text = text_of(pdf, tmp_path)
    assert "Pages: 1" in " ".join(ask("pdfinfo", pdf, tmp_path).split())
    assert "Pneumonia PRESENT 83.2 %" in text
    assert re.search(r"\d+ more are left out for want of room", text)
    assert "(cut for want of room)" in text


def test_the_document_is_made_to_last_and_to_be_read_aloud(tmp_path: Path) -> None:
    pdf = pdf_of(examples.radiograph_analysis())
    assert b"<pdfaid:part>2</pdfaid:part><pdfaid:conformance>A</pdfaid:conformance>" in pdf
    assert b"<pdfuaid:part>1</pdfuaid:part>" in pdf
    assert re.search(rb"/OutputIntent/DestOutputProfile \d+ 0 R/S/GTS_PDFA1", pdf)
    info = ask("pdfinfo", pdf, tmp_path)
    assert re.search(r"Title: +AI report: cxr-pneumonia 1\.0\.0\n", info)
    assert re.search(r"Tagged: +yes", info)
    assert "A4" in info
    _, _, *fonts = ask("pdffonts", pdf, tmp_path).splitlines()
    assert fonts
    assert all(re.search(r" yes +yes +yes +\d+ +\d+$", font) for font in fonts), fonts  # embedded, subset, Unicode


def test_equal_answers_give_equal_bytes_in_every_process() -> None:
    program = (
        "import hashlib, time; time.tzset();"
        "from tests.integration.test_encapsulated_pdf import *;"
        "print(hashlib.sha256(to_part10(document_of(examples.ct_analysis(), time_zone_name='UTC'))).hexdigest())"
    )
    sums = [
        subprocess.run(
            [sys.executable, "-c", program], env={"TZ": zone, "OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": epoch},
            cwd=needs.REPOSITORY, check=True, capture_output=True, text=True,
        ).stdout
        for zone, epoch in (("UTC", "0"), ("Asia/Tokyo", "1700000000"))
    ]  # fmt: skip
    assert sums[0] == sums[1]
    assert len(sums[0]) == 65


def test_another_start_of_the_job_is_another_time_in_the_document(tmp_path: Path) -> None:
    source = examples.radiograph(TimezoneOffsetFromUTC="+0530")
    info = ask("pdfinfo", pdf_of(examples.radiograph_analysis(source)), tmp_path, "-isodates")
    assert re.search(r"CreationDate: +2026-03-14T(14:56:53\+05:30|09:26:53Z)", info)


@pytest.mark.parametrize("answer", [examples.radiograph_analysis(), examples.ct_analysis(), examples.not_analysed()],
                         ids=["radiograph", "volume", "declined"])  # fmt: skip
def test_the_object_around_the_document_is_valid(answer: Analysis | NotAnalysed, tmp_path: Path) -> None:
    dataset = document_of(answer)
    path = tmp_path / "pdf.dcm"
    path.write_bytes(to_part10(dataset))
    validators.assert_valid_dicom(path)
    assert dataset.SOPClassUID == EncapsulatedPDFStorage
    assert (dataset.Modality, dataset.VerificationFlag, dataset.BurnedInAnnotation) == ("DOC", "UNVERIFIED", "NO")
    assert dataset.DocumentTitle.endswith("NOT VERIFIED")
    assert dataset.EncapsulatedDocument.startswith(b"%PDF-1.7")
    assert len(dataset.EncapsulatedDocument) % 2 == 0
    assert {i.ReferencedSOPInstanceUID for i in dataset.SourceInstanceSequence} <= {
        s.SOPInstanceUID for s in answer.sources
    }
