"""Makes docs/images/ohif-*.jpg from what the viewer tests saw: `python -m tests.viewer.screenshots FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tests.viewer.pictures import IMAGES

#: Picture of the documentation, by the name of a test's screenshot.
_PICTURES = {
    "report": "ohif-report",
    "segmentation": "ohif-segmentation",
    "picture-3": "ohif-pictures",
    "page": "ohif-pdf",
}
_WIDTH_PX = 1050


def main(folder: Path) -> None:
    """Write one JPEG per screenshot that the documentation shows."""
    for seen, shown in _PICTURES.items():
        image = Image.open(folder / f"{seen}.png").convert("RGB")
        image.thumbnail((_WIDTH_PX, _WIDTH_PX), Image.Resampling.LANCZOS)
        image.save(IMAGES / f"{shown}.jpg", quality=84, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
