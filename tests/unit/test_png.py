"""Pictures as PNG: what another program reads is what was written."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dicom_node.sr_writer.pictures.pen import png_bytes


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (64, 33), (300, 200)])
def test_a_picture_comes_back_pixel_for_pixel(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)

    read = Image.open(BytesIO(png_bytes(rgb)))

    assert (read.format, read.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(read), rgb)


def test_a_view_on_a_picture_may_be_written() -> None:
    rgb = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)

    assert np.array_equal(np.asarray(Image.open(BytesIO(png_bytes(rgb[::2, ::-1])))), rgb[::2, ::-1])
