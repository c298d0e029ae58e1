"""How large a stored image is, read from its header alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from dicom_node.core.errors import UnreadableObject
from dicom_node.headers.sound import READ_ERRORS

_SIZE = ("Rows", "Columns", "NumberOfFrames")


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Columns and rows in pixels, and how many frames there are (PS3.3 C.7.6.3)."""

    columns: int
    rows: int
    frames: int = 1


def image_size(path: Path) -> ImageSize:
    """Return the size of a stored image. Raises `UnreadableObject`."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(_SIZE))
        return ImageSize(int(header.Columns), int(header.Rows), int(header.get("NumberOfFrames") or 1))
    except (*READ_ERRORS, AttributeError) as error:
        raise UnreadableObject(f"The size of a stored image cannot be read ({type(error).__name__}).") from error
