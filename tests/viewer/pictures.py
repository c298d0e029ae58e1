"""Makes those pictures of docs/reference/results.md that need no viewer: `python -m tests.viewer.pictures`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.inspect.graphics import presentation_picture
from dicom_node.inspect.images import image_picture, map_picture
from tests.viewer.studies import MarkedStudy, marked_study

IMAGES = Path(__file__).parents[2] / "docs" / "images"
_SIDE_PX = 700


def main() -> None:
    """Write one JPEG per kind of object that can be looked at outside a viewer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = marked_study(folder)
        written = [dcmread(path) for path in study.objects]
        summary, _, heatmap, key_slice = (image_picture(one) for one in written if _kind(one).startswith("Secondary"))
        _save("result-summary", summary)
        _save("result-heatmap", heatmap)
        _save("result-key-slice", key_slice)
        _save("result-outlines", _outlines(study, _of(written, "Grayscale Softcopy")))
        _save("result-map", map_picture(_of(written, "Parametric Map")))
        _save("result-page", _page(_of(written, "Encapsulated PDF"), folder))


def _kind(written: Dataset) -> str:
    return str(written.SOPClassUID.name)


def _of(written: list[Dataset], kind: str) -> Dataset:
    return next(one for one in written if _kind(one).startswith(kind))


def _outlines(study: MarkedStudy, state: Dataset) -> np.ndarray:
    """Lay the graphics over their image, as a viewer of presentation states does."""
    uid = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
    source = next(one for path in study.sources if (one := dcmread(path)).SOPInstanceUID == uid)
    graphics = presentation_picture(state)
    image = Image.fromarray(image_picture(source)).resize(graphics.shape[1::-1], Image.Resampling.BICUBIC)
    return np.where(graphics.any(axis=2, keepdims=True), graphics, np.asarray(image))


def _page(document: Dataset, folder: Path) -> np.ndarray:
    page = folder / "page.pdf"
    page.write_bytes(document.EncapsulatedDocument)
    subprocess.run(["pdftoppm", "-r", "90", "-singlefile", page, folder / "page"], check=True)
    return np.asarray(Image.open(folder / "page.ppm"))


def _save(name: str, rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    image.thumbnail((_SIDE_PX, 2 * _SIDE_PX), Image.Resampling.LANCZOS)
    image.save(IMAGES / f"{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
