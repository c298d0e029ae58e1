"""Reports of every class and answer, judged by dciodvfy, dsrdump, highdicom and PixelMed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from highdicom.sr import srread

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.entities import Finding, Presence
from dicom_node.core.outputs.artifact_kinds import OutputSet, SrClass
from dicom_node.sr_writer import to_part10, write_objects
from tests.integration.test_sr_writer_report import negative, nodule
from tests.support.results import analysis_examples as examples
from tests.support.validators import objects as validators

CLASSES: tuple[SrClass, ...] = ("comprehensive3d", "comprehensive", "enhanced")


def answers() -> dict[str, Analysis | NotAnalysed]:
    ct = examples.ct_analysis()
    total = replace(ct.findings[0], key="lungs", label="Both lungs", laterality=None, segment_number=None)
    absent = Finding(
        key="nodule", label="Nodule", code=examples.PNEUMONIA, site=total.site, presence=Presence.ABSENT,
        probability=0.1, threshold=0.5,
    )  # fmt: skip
    boxes = (nodule(1, ct.sources[5]), nodule(2, ct.sources[2]))
    return {
        "box": examples.radiograph_analysis(),
        "nothing-found": negative(),
        "segments-sum-and-absence": replace(ct, findings=(total, *ct.findings, absent)),
        "boxes-on-slices": replace(ct, findings=(*boxes, absent), segments=()),
        "boxes-and-segments": replace(ct, findings=(*boxes, *ct.findings)),
        "not-analysed": examples.not_analysed(),
    }


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[SrClass, Path]]:
    folder = tmp_path_factory.mktemp("reports")
    found: dict[str, dict[SrClass, Path]] = {}
    for name, answer in answers().items():
        output_sets = tuple(OutputSet(structured_report=one, secondary_capture=False) for one in CLASSES)
        *_, first, second, third = write_objects(answer, examples.context(output_sets=output_sets))
        found[name] = {}
        for sr_class, one in zip(CLASSES, (first, second, third), strict=True):
            found[name][sr_class] = folder / f"{name}-{sr_class}.dcm"
            found[name][sr_class].write_bytes(to_part10(one.dataset))
    return found


@pytest.mark.parametrize("name", answers())
def test_a_report_of_any_class_is_valid_readable_and_parsed(name: str, reports: Any) -> None:
    for path in reports[name].values():
        validators.assert_valid_dicom(path)
        validators.assert_readable_sr(path)
        validators.assert_parsed(path)


def test_reports_hold_the_template(reports: Any) -> None:
    judged_elsewhere = {"box", "not-analysed"}
    names = [name for name in reports if name not in judged_elsewhere]
    for name in names:
        validators.assert_valid_sr(reports[name]["comprehensive3d"])


def test_the_classes_differ_in_name_only(reports: Any) -> None:
    for paths in reports.values():
        first, *others = [[validators.tree_of(one) for one in srread(path).ContentSequence] for path in paths.values()]
        assert others == [first, first]


def test_highdicom_finds_the_groups_by_what_they_are_about(reports: Any) -> None:
    content: Any = srread(reports["boxes-and-segments"]["comprehensive3d"]).content
    planar = content.get_planar_roi_measurement_groups()
    volumetric = content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in planar] == ["Nodule 1", "Nodule 2"]
    assert [group.tracking_identifier for group in volumetric] == ["Right lung", "Left lung"]
