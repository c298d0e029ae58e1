"""The table of outcomes tells every series of a folder, by every model, with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.studies import volumes
from tools import public_studies


def test_the_table_tells_every_series_and_picture_by_every_model(tmp_path: Path) -> None:
    series = volumes.classic(volumes.asymmetric(), volumes.affine())
    for name, datasets in (("whole", series), ("gap", series[:2] + series[3:])):
        volumes.stored(datasets, tmp_path / name)
    (tmp_path / "film").mkdir()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(tmp_path / "film" / "one.png")

    header, _, film, gap, whole = public_studies.table(tmp_path).splitlines()

    models = [cell.strip(" `") for cell in header.split("|")[4:-1]]
    assert {"ct-lung-density", "cxr-pneumonia"} <= set(models)
    at = {name: 4 + place for place, name in enumerate(models)}
    assert [row.split("|")[1].strip() for row in (film, gap, whole)] == ["film", "gap", "whole"]
    assert "`GAP_IN_SERIES`" in gap.split("|")[3]
    assert "6 × 40 × 36, 2.5 × 1.1 × 0.8 mm" in whole.split("|")[3]
    assert film.split("|")[at["ct-lung-density"]].strip() == "`WRONG_MODALITY`"
    assert film.split("|")[at["cxr-pneumonia"]].strip() == "`AGE_UNKNOWN`"
    assert whole.split("|")[at["ct-lung-density"]].strip() == "`TOO_FEW_SLICES`"
