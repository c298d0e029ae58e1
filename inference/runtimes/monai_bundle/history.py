"""What a bundle's preprocessing did to the place of things, as far as the bundle tells.

MONAI writes the history of an image on the image itself. A step that makes a plain tensor of it (`track_meta=False`)
forgets it: then nothing can be brought back by what is written there, and no flip can be seen there either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.data.meta_tensor import MetaTensor
from monai.transforms.inverse import TraceableTransform

from dicom_node.core.errors import ModelUnavailable

#: After this the input still shows the whole image, corner on corner.
_PLACES_WHOLE_IMAGE = frozenset({"Resize"})
#: Of patient axes, towards and against MONAI's world (RAS).
_SIDES = (("right", "left"), ("front", "back"), ("head", "feet"))
_MOVING = ("monai.transforms.spatial", "monai.transforms.croppad")


def shows_whole_image(steps: Sequence[Any], image: Any) -> bool:
    """Tell whether it is known of an image after these steps that it shows all of what went in, corner on corner."""
    moved = _moving(steps)
    if _lost(moved, image) and any(_is_strange(step) for step in steps):
        return False
    return not (moved | _applied(image)) - _PLACES_WHOLE_IMAGE


def is_unmoved(steps: Sequence[Any]) -> bool:
    """Tell whether these steps are known to leave everything where it was."""
    return not _moving(steps) and not any(_is_strange(step) for step in steps)


def axes_told(image: Any) -> str:
    """Say how what went into the network lies in the patient: sizes, distance of voxels and the side each axis grows to
    (right, front, head, or their opposites)."""
    sizes = "x".join(str(size) for size in image.shape[1:])
    if not isinstance(image, MetaTensor) or len(image.shape) != 4:
        return f"its network was given {sizes} pixels"
    columns = np.asarray(image.affine, float)[:3, :3].T
    sides = [_SIDES[int(np.abs(one).argmax())][int(one[np.abs(one).argmax()] < 0)] for one in columns]
    spacing = "x".join(f"{np.linalg.norm(one):.3g}" for one in columns)
    return f"its network was given {sizes} voxels of {spacing} mm, axes to {', '.join(sides)}"


def require_history(steps: Sequence[Any], entries: Mapping[str, Any], key: str) -> None:
    """Raise `ModelUnavailable` where the preprocessing forgot what it did, so that nothing can undo it."""
    if _lost(_moving(steps), entries.get(key)) and TraceableTransform.trace_key(key) not in entries:
        raise ModelUnavailable(
            "The bundle's preprocessing forgets what it did to the image (track_meta=False), so that its result has no "
            "sure place on it. Let it keep track_meta."
        )


def _moving(steps: Sequence[Any]) -> frozenset[str]:
    """Return the names, those of the transforms of arrays, of the steps that move things."""
    found = (type(step) for step in steps if type(step).__module__.startswith(_MOVING))
    return frozenset(
        one.__name__.removesuffix("d") if one.__module__.endswith("dictionary") else one.__name__ for one in found
    )


def _applied(image: Any) -> frozenset[str]:
    return frozenset(str(step["class"]) for step in getattr(image, "applied_operations", []))


def _lost(moved: frozenset[str], image: Any) -> bool:
    """A plain tensor has no history, and one made a MetaTensor again begins a new one."""
    return not isinstance(image, MetaTensor) or (bool(moved) and not _applied(image))


def _is_strange(step: Any) -> bool:
    """A function, or a script of the bundle's own: it may do anything."""
    kind = type(step)
    return not kind.__module__.startswith("monai.transforms.") or kind.__name__.startswith("Lambda")
