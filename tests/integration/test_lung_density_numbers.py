"""The further numbers of ct-lung-density, held against the chest that was drawn: shares, weight, thirds, score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.analysis.answer import Analysis
from dicom_node.demo.phantoms import Chest, Grid
from tests.integration import chests
from tests.integration.chests import Scan
from tests.integration.test_lung_density_hard import FEET_FIRST, measured
from tests.support.studies import volumes

THIRDS = ("UPPER", "MIDDLE", "LOWER")
REGIONAL = {"GODDARD-LIKE", "LAA-SD", *(f"{kind}-{third}" for kind in ("LAA950", "PERC15") for third in THIRDS)}


def numbers(answer: Analysis, key: str = "both-lungs") -> dict[str, float]:
    (finding,) = (one for one in answer.findings if one.key == key)
    return {one.name.value: one.value for one in finding.measurements}


def left_out(answer: Analysis) -> str:
    (told,) = (note for note in answer.notes if note.startswith("Not reported:"))
    return told


def emphysema(body: Chest, grid: Grid) -> None:
    """The front of the upper third of the left lung, by and large, is destroyed."""
    upper, front = grid.z_mm[:, None, None] > 25, grid.y_mm[None, :, None] < 0
    body.hu_zyx[body.left_lung_zyx & upper & front & (body.hu_zyx < -500)] = -965.0


def drawn_thirds(body: Chest, mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Cut a drawn lung in three equal parts, from the head, voxel by voxel."""
    z, inside = np.nonzero(mask)[0], body.hu_zyx[mask]
    order = np.argsort(-z, kind="stable")
    return [inside[part] for part in np.array_split(order, 3)]


def drawn_points(body: Chest, mask: NDArray[np.bool_]) -> int:
    """Count the points of a drawn lung: one at every bound that the share of a level reaches."""
    z, points = np.nonzero(mask)[0], 0
    for height in (1 / 6, 3 / 6, 5 / 6):
        level = round(float(np.quantile(z, height)))
        inside = body.hu_zyx[level - 1 : level + 2][mask[level - 1 : level + 2]]
        points += sum((inside < -950).mean() * 100 >= bound for bound in (5, 25, 50, 75))
    return points


def test_the_shares_weight_and_thirds_of_each_lung_meet_what_was_drawn(tmp_path: Path) -> None:
    body, scan = chests.scanned(emphysema)

    answer = measured(chests.series(body, scan), tmp_path)

    for key, mask in (("left-lung", body.left_lung_zyx), ("right-lung", body.right_lung_zyx)):
        found, inside = numbers(answer, key), body.hu_zyx[mask]
        volume_ml = mask.sum() * scan.voxel_ml
        assert found["LAA910"] == pytest.approx((inside < -910).mean() * 100, abs=2)
        assert found["LUNG-WEIGHT"] == pytest.approx(volume_ml * (inside.mean() + 1000) / 1000, rel=0.05)
        for third, drawn in zip(THIRDS, drawn_thirds(body, mask), strict=True):
            assert found[f"LAA950-{third}"] == pytest.approx((drawn < -950).mean() * 100, abs=3)
            assert found[f"PERC15-{third}"] == pytest.approx(np.percentile(drawn, 15), abs=8)
        shares = [found[f"LAA950-{third}"] for third in THIRDS]
        assert found["LAA-SD"] == pytest.approx(np.std(shares), abs=0.1)
        assert found["GODDARD-LIKE"] == pytest.approx(drawn_points(body, mask), abs=1)
    left, right, both = (numbers(answer, key) for key in ("left-lung", "right-lung", "both-lungs"))
    assert left["LAA950-UPPER"] > 25 + left["LAA950-LOWER"]
    assert both["GODDARD-LIKE"] == left["GODDARD-LIKE"] + right["GODDARD-LIKE"]
    assert both["LUNG-WEIGHT"] == pytest.approx(left["LUNG-WEIGHT"] + right["LUNG-WEIGHT"], abs=2)


def test_the_upper_third_is_that_of_the_head_of_a_patient_scanned_feet_first(tmp_path: Path) -> None:
    body, scan = chests.scanned(emphysema, Scan(spacing_mm=10.0))
    place = scan.affine @ FEET_FIRST
    place[:3, 3] = (scan.affine @ [scan.rows - 1, 0, len(body.hu_zyx) - 1, 1])[:3]
    turned = volumes.classic(body.hu_zyx[::-1, :, ::-1].astype(np.int16), place, name="feet", PatientAge="055Y")

    upright = measured(chests.series(body, scan), tmp_path / "head")
    feet_first = measured(turned, tmp_path / "feet")

    for key in ("left-lung", "right-lung"):
        found, expected = numbers(feet_first, key), numbers(upright, key)
        assert {name: found[name] for name in REGIONAL} == {name: expected[name] for name in REGIONAL}


def test_trapped_gas_is_measured_after_breathing_out_only(tmp_path: Path) -> None:
    body, scan = chests.scanned(scan=Scan(spacing_mm=10.0))
    tall = {"PatientSize": 1.65, "PatientSex": "F"}

    into = measured(chests.series(body, scan, **tall), tmp_path / "in")
    out = measured(chests.series(body, scan, SeriesDescription="LUNG EXP 10.0", **tall), tmp_path / "out")

    inside = body.hu_zyx[body.left_lung_zyx | body.right_lung_zyx]
    assert numbers(out)["LAA856"] == pytest.approx((inside < -856).mean() * 100, abs=2)
    assert "LAA856" not in numbers(into)
    assert "LAA-856, of trapped gas (the series does not say" in left_out(into)
    # What is adjusted is adjusted to a full breath.
    assert "PERC15-ADJUSTED" not in numbers(out)
    assert "(the series was taken after breathing out)" in left_out(out)


def test_the_percentile_is_adjusted_for_volume_where_height_and_sex_are_told(tmp_path: Path) -> None:
    body, scan = chests.scanned(scan=Scan(spacing_mm=10.0))

    told = measured(chests.series(body, scan, PatientSize=1.65, PatientSex="F"), tmp_path / "told")
    untold = measured(chests.series(body, scan, PatientSize=None, PatientSex="F"), tmp_path / "untold")

    found = numbers(told)
    by_hand = (found["PERC15"] + 1000) * found["118565006"] / 5100
    assert found["PERC15-ADJUSTED"] == pytest.approx(by_hand, abs=1)
    assert "PERC15-ADJUSTED" not in numbers(told, "left-lung")
    assert "PERC15-ADJUSTED" not in numbers(untold)
    assert "adjusted for volume (Patient's Size is not told)" in left_out(untold)


def test_of_lungs_that_the_scan_cuts_off_neither_weight_nor_thirds_are_reported(tmp_path: Path) -> None:
    body, scan = chests.scanned(scan=Scan(low_z_mm=-60.0))

    answer = measured(chests.series(body, scan, PatientSize=1.65, PatientSex="F"), tmp_path)

    for finding in answer.findings:
        found = {one.name.value for one in finding.measurements}
        assert found == {"112031", "LAA950", "PERC15", "LAA910"}
        assert ("LUNG-WEIGHT", "LUNGS_TRUNCATED") in [(one.name.value, one.reason) for one in finding.withheld]
    assert "thirds, their heterogeneity and the Goddard-like score of what the scan cuts off" in left_out(answer)


def test_of_a_sharp_kernel_no_number_of_density_is_reported(tmp_path: Path) -> None:
    body, scan = chests.scanned(scan=Scan(spacing_mm=10.0))
    sharp = {"ConvolutionKernel": "B70f", "Manufacturer": "SIEMENS", "SeriesDescription": "LUNG EXP"}

    answer = measured(chests.series(body, scan, **sharp), tmp_path)

    for finding in answer.findings:
        assert {one.name.value for one in finding.measurements} == {"118565006", "112031", "LUNG-WEIGHT"}
        assert {one.name.value for one in finding.withheld} == {"LAA950", "PERC15", "LAA910", "LAA856", "GODDARD-LIKE"}
    assert "thirds and their heterogeneity (the kernel)" in left_out(answer)
