"""Three panels show the image, the map and both, in this order and at the same scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dicom_node.analysis.written import Picture
from dicom_node.sr_writer.pictures.pictures import pictures_of
from tests.support.results import analysis_examples as examples


def _heatmap(*, in_three_panels: bool) -> Picture:
    analysis = examples.radiograph_analysis()
    saliencies = tuple(replace(one, in_three_panels=in_three_panels) for one in analysis.saliencies)
    drawn = pictures_of(replace(analysis, saliencies=saliencies), examples.context())
    return next(picture for picture in drawn if picture.key.startswith("heatmap"))


def test_the_panels_are_the_image_the_map_and_the_overlay() -> None:
    picture = _heatmap(in_three_panels=True).rgb.astype(int)
    colour = picture.max(axis=2) - picture.min(axis=2)
    rows = slice(picture.shape[0] // 8, picture.shape[0] // 2)
    third = picture.shape[1] * 9 // 32
    panels = [colour[rows, n * third + third // 8 : (n + 1) * third - third // 8] for n in range(3)]

    assert panels[0].max() <= 8, "the first panel is the grey image"
    assert np.median(panels[1]) > 30, "the second is colour throughout"
    assert 30 < panels[2].max() < panels[1].max(), "the third is the image with colour over the hot part"
    assert picture.shape[1] > 1.8 * picture.shape[0]


def test_one_panel_stays_the_usual_picture_under_the_same_key() -> None:
    single, three = _heatmap(in_three_panels=False), _heatmap(in_three_panels=True)
    assert (single.key, single.description) == (three.key, three.description)
    assert single.rgb.shape != three.rgb.shape
