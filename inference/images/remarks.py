"""What a reader must know of the images that were used, in sentences: what they lost, and what was hidden of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.decoding.lossy import LossyHistory, lossy_history
from dicom_node.decoding.shutter import Hidden
from dicom_node.inference.images.exclusions import MAGNITUDE, complex_component, spectral


def lossy_remarks(headers: Sequence[Dataset]) -> list[str]:
    """Return a sentence where some of the images were compressed with loss, or may have been; else nothing."""
    found = [one for one in map(lossy_history, headers) if one is not None]
    if not found:
        return []
    images = f"{len(found)} of the {len(headers)} images" if len(headers) > 1 else "The image"
    how = ", ".join(sorted({one.method_names for one in found}))
    if not any(one.is_certain for one in found):
        return [f"{images} came in an encoding that may lose something ({how}), and nothing says whether it did."]
    were = "were" if len(headers) > 1 else "was"
    return [
        f"{images} {were} compressed with loss before the analysis ({how}, {_ratio_text(found)}): what is measured or "
        "seen may differ from what was acquired."
    ]


def spectral_remarks(headers: Sequence[Dataset]) -> list[str]:
    """Return a sentence where images were computed from several energies, or were acquired at several; else nothing."""
    words = sorted({found.words for one in headers if (found := spectral(one)) is not None})
    if words:
        return [f"The images are {' and '.join(words)}: values may differ from those of conventional CT."]
    if any(str(one.get("MultienergyCTAcquisition") or "").upper() == "YES" for one in headers):
        return ["The images come from an acquisition at several energies (Multi-energy CT Acquisition)."]
    return []


def component_remarks(headers: Sequence[Dataset]) -> list[str]:
    """Return a sentence where MR images show another part of the signal than its magnitude; else nothing."""
    others = sorted({one for header in headers if (one := complex_component(header)) != MAGNITUDE})
    if not others:
        return []
    return [f"The images show the {' and '.join(others).lower()} of the signal and not its magnitude."]


def shuttered_remarks(headers: Sequence[Dataset]) -> list[str]:
    """Return a sentence where slices have a display shutter, each its own or that of its frame (PS3.3 C.7.6.11,
    C.7.6.16.2.16): viewers hide what a model of volumes is given; else nothing."""
    count = sum(bool(header.get("ShutterShape")) for header in headers)
    if not count:
        return []
    return [
        f"{count} of the {len(headers)} images have a display shutter: viewers hide a part of them, and the model was "
        "given the whole."
    ]


def shutter_remark(header: Dataset, hidden: Hidden | None) -> list[str]:
    """Return a sentence where a display shutter hides a part of an image; else nothing."""
    if hidden is None or not hidden.any():
        return []
    share = max(1, round(100 * float(np.mean(hidden))))
    return [
        f"The display shutter of image {header.get('InstanceNumber', '?')} hides {share} % of it; the model was shown "
        "the image as a viewer shows it."
    ]


def _ratio_text(found: Sequence[LossyHistory]) -> str:
    ratios = sorted(one.ratio for one in found if one.ratio is not None)
    if not ratios:
        return "by a ratio that is not told"
    low, high = f"{ratios[0]:.3g}:1", f"{ratios[-1]:.3g}:1"
    return low if low == high else f"{low} to {high}"
