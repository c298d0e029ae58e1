"""Left and right lung on chest CT, by threshold and morphology; no learned weights.

Follows the three steps of Hu, Hoffman and Reinhardt, "Automatic lung segmentation for accurate quantitation of
volumetric X-ray CT images", IEEE TMI 2001;20:490-498: optimal threshold and extraction of the air inside the body
without trachea and main bronchi; separation of left and right; smoothing so that vessels belong to the lung. Works on
a grid of about 2 mm and draws the border anew on the full grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.lungs.airways import find_airways, reach_the_bronchi
from dicom_node.inference.lungs.field import sides_cut_off
from dicom_node.inference.lungs.gas import abdominal_gas, disk, gas_without_tissue_ml

Bools = NDArray[np.bool_]
Values = NDArray[np.int16]
Spacing = tuple[float, float, float]

_COARSE_MM = 2.0
_TABLE_OPENING_MM = 2.5
_MENDING_MM = 40.0
_TORN_SHARE = 0.8
#: The foam inside a table is wider than a lung, and less thick than this share of its width.
_TABLE_WIDTH_MM, _FLAT = 200.0, 0.25
_CLOSING_MM = 6.0
_MIN_LUNG_ML = 100.0
#: Gas without tissue in it: stomach and bowel, not lung.
_GAS_HU = -965.0
#: A pulmonary vessel cut across; more may be the dome of the diaphragm, or a mass at the hilum.
_LARGEST_VESSEL_MM2 = 500.0
_SPLIT_RADII_MM = (2.0, 4.0, 6.0, 8.0, 11.0, 14.0)
_SPLIT_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Lungs:
    """Masks on the grid they were asked on; an absent lung is empty. `airways_zyx` is the lumen that was removed.

    `cut_at_side` tells of (left, right) lung whether it reaches a side of the field of view, where it cannot be told
    from what lies beyond.
    """

    left_zyx: Bools
    right_zyx: Bools
    airways_zyx: Bools
    threshold_hu: float
    cut_at_side: tuple[bool, bool] = (False, False)
    #: Whether they were followed to where the trachea divides.
    airways_are_whole: bool = True
    #: How much of the lungs is gas in one piece, without tissue in it.
    empty_ml: float = 0.0


def segment_lungs(hu_zyx: Values, spacing_zyx_mm: Spacing) -> Lungs:
    """Segment both lungs of an array that runs feet to head, front to back, patient's right to left.

    Raises `NotAnalysable` (NO_LUNGS) when nothing in it looks like a lung.
    """
    factors = tuple(max(1, round(_COARSE_MM / mm)) for mm in spacing_zyx_mm)
    coarse_hu = _block_means(hu_zyx, factors)
    coarse_mm: Spacing = tuple(mm * f for mm, f in zip(spacing_zyx_mm, factors, strict=True))  # type: ignore[assignment]
    threshold_hu = optimal_threshold(coarse_hu)
    tissue = coarse_hu >= threshold_hu
    trunk = _trunk(tissue, coarse_mm)
    body = _body(trunk, tissue, coarse_mm)
    if not body.any():
        raise NotAnalysable("NO_LUNGS", "No body was found in the images.")
    midline_x_px = float(np.nonzero(body.any(axis=(0, 1)))[0].mean())
    cut_at_side = sides_cut_off(coarse_hu, trunk, coarse_mm, midline_x_px)

    air = body & ~tissue
    airways = find_airways(coarse_hu, air, coarse_mm, midline_x_px)
    air &= ~ndimage.binary_dilation(airways, np.ones((1, 3, 3), bool))
    gas = abdominal_gas(coarse_hu, air, tissue, coarse_mm)
    air &= ~gas
    left, right = _sides(_lung_components(coarse_hu, air, coarse_mm), midline_x_px, coarse_mm)
    allowed = body & ~airways & ~gas
    left, right = _smooth(left, allowed & ~right, coarse_mm), _smooth(right, allowed & ~left, coarse_mm)
    whole = reach_the_bronchi(airways, coarse_mm)
    empty_ml = gas_without_tissue_ml(coarse_hu, left | right, coarse_mm)
    found = Lungs(left, right & ~left, airways, threshold_hu, cut_at_side, whole, empty_ml)
    return _on_full_grid(hu_zyx, factors, found, gas)


def optimal_threshold(hu_zyx: Values) -> float:
    """Return the value halfway between the mean of the dark and of the bright voxels, found by iteration."""
    counts = np.bincount((np.clip(hu_zyx, -1024, 1023).ravel() + 1024).astype(np.int64), minlength=2048)
    values = np.arange(-1024, 1024)
    threshold = -500.0
    for _ in range(50):
        dark = values < threshold
        if not counts[dark].any() or not counts[~dark].any():
            break
        means = (np.average(values[part], weights=counts[part]) for part in (dark, ~dark))
        following = sum(means) / 2
        if abs(following - threshold) < 0.5:
            break
        threshold = float(following)
    return threshold


def _block_means(hu_zyx: Values, factors: tuple[int, ...]) -> Values:
    """Average blocks of voxels; the last blocks repeat the border."""
    if all(factor == 1 for factor in factors):
        return hu_zyx
    fz, fy, fx = factors
    planes = []
    for start in range(0, hu_zyx.shape[0], fz):
        plane = hu_zyx[start : start + fz].mean(axis=0, dtype=np.float32)
        plane = np.pad(plane, [(0, -plane.shape[0] % fy), (0, -plane.shape[1] % fx)], mode="edge")
        rows, columns = plane.shape
        planes.append(plane.reshape(rows // fy, fy, columns // fx, fx).mean(axis=(1, 3)))
    means: Values = np.rint(np.stack(planes)).astype(np.int16)
    return means


def _trunk(tissue: Bools, spacing_zyx_mm: Spacing) -> Bools:
    """Return the tissue of the trunk, slice by slice: opening cuts the table off, and the largest part stays."""
    trunk = ndimage.binary_opening(tissue, disk(_TABLE_OPENING_MM, spacing_zyx_mm))
    for z in np.nonzero(trunk.any(axis=(1, 2)))[0]:
        labels, _ = ndimage.label(trunk[z])
        trunk[z] = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return trunk


def _body(trunk: Bools, tissue: Bools, spacing_zyx_mm: Spacing) -> Bools:
    """Return the trunk with its holes filled, slice by slice.

    Growing back within the tissue mends a thin chest wall that the opening of the trunk tore.
    """
    mending = max(1, round(_MENDING_MM / min(spacing_zyx_mm[1:])))
    body = np.zeros_like(tissue)
    for z in np.nonzero(trunk.any(axis=(1, 2)))[0]:
        mended = ndimage.binary_dilation(trunk[z], iterations=mending, mask=tissue[z])
        body[z] = _closed(ndimage.binary_fill_holes(mended), tissue[z], trunk[z], spacing_zyx_mm[1:])
    return body


def _closed(body: Bools, tissue: Bools, trunk: Bools, spacing_yx_mm: tuple[float, float]) -> Bools:
    """Return the body, or all tissue with its holes filled where that is far more: then the wall was torn open, and
    what touches the back is part of all tissue."""
    labels, _ = ndimage.label(tissue)
    whole: Bools = ndimage.binary_fill_holes(labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()))
    if float(body.sum()) >= _TORN_SHARE * float(whole.sum()):
        return body
    return whole & ~_table(trunk, whole & ~tissue, spacing_yx_mm)


def _table(trunk: Bools, holes: Bools, spacing_yx_mm: tuple[float, float]) -> Bools:
    """Return the holes of a slice that are the inside of a table which the back touches: one flat piece, wider than
    any lung, with the trunk on one side of it only."""
    parts, _ = ndimage.label(holes)
    found = np.zeros_like(holes)
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
        width_mm = (columns.stop - columns.start) * spacing_yx_mm[1]
        is_flat = (rows.stop - rows.start) * spacing_yx_mm[0] < _FLAT * width_mm
        before, behind = trunk[: rows.start, columns].any(), trunk[rows.stop :, columns].any()
        if width_mm > _TABLE_WIDTH_MM and is_flat and before != behind:
            found |= parts == number
    return found


def _lung_components(hu_zyx: Values, air: Bools, spacing_zyx_mm: Spacing) -> list[Bools]:
    """Return connected air that is large enough and holds tissue; stomach and bowel gas does not."""
    labels, _ = ndimage.label(air)
    sizes_ml = np.bincount(labels.ravel()) * (float(np.prod(spacing_zyx_mm)) / 1000.0)
    large = [int(label) for label in np.argsort(-sizes_ml, kind="stable") if label and sizes_ml[label] >= _MIN_LUNG_ML]
    found = [labels == label for label in large]
    found = [mask for mask in found if float(np.median(hu_zyx[mask])) > _GAS_HU]
    if not found:
        raise NotAnalysable("NO_LUNGS", "No air-filled lung was found in the images.")
    return found


def _sides(components: list[Bools], midline_x_px: float, spacing_zyx_mm: Spacing) -> tuple[Bools, Bools]:
    """Return (left, right): a component that reaches well over both sides is split first; patient left is high x."""
    parts = [part for mask in components for part in _split(mask, midline_x_px, spacing_zyx_mm)]
    left, right = np.zeros_like(components[0]), np.zeros_like(components[0])
    for part in parts:
        side = left if float(np.nonzero(part)[2].mean()) > midline_x_px else right
        side |= part
    return left, right


def _split(mask: Bools, midline_x_px: float, spacing_zyx_mm: Spacing) -> list[Bools]:
    """Separate two lungs that touch, by eroding until two large parts remain and giving each voxel to the nearer."""
    beyond = float(mask[:, :, int(midline_x_px) + 1 :].sum()) / float(mask.sum())
    if not _SPLIT_SHARE < beyond < 1 - _SPLIT_SHARE:
        return [mask]
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    depth_mm = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing_zyx_mm)[1:-1, 1:-1, 1:-1]
    for radius_mm in _SPLIT_RADII_MM:
        labels, count = ndimage.label(depth_mm > radius_mm)
        sizes = np.bincount(labels.ravel())[1:] if count else np.zeros(0)
        order = np.argsort(-sizes, kind="stable")[:2]
        if len(order) == 2 and sizes[order[1]] > _SPLIT_SHARE * sizes.sum():
            away = [ndimage.distance_transform_edt(labels != label + 1, sampling=spacing_zyx_mm) for label in order]
            first = np.zeros_like(mask)
            first[box] = mask[box] & (away[0] <= away[1])
            return [first, mask & ~first]
    return [mask]


def _smooth(lung: Bools, allowed: Bools, spacing_zyx_mm: Spacing) -> Bools:
    """Close vessels and fill what the lung encloses in a slice, without leaving `allowed`."""
    if not lung.any():
        return lung
    margin = [int(_CLOSING_MM / mm) + 1 for mm in spacing_zyx_mm]
    found = ndimage.find_objects(lung.astype(np.uint8))[0]
    box = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(found, margin, lung.shape, strict=True)
    )
    # Repeating the end slices keeps the closing from eating or adding lung where the scan cuts it.
    near = np.pad(lung[box], [(margin[0], margin[0]), (0, 0), (0, 0)], mode="edge")
    dilated = ndimage.distance_transform_edt(~near, sampling=spacing_zyx_mm) <= _CLOSING_MM
    closed = (ndimage.distance_transform_edt(dilated, sampling=spacing_zyx_mm) > _CLOSING_MM)[margin[0] : -margin[0]]
    smooth = lung.copy()
    smooth[box] |= closed & allowed[box]
    smooth[box] |= _small_holes(smooth[box], spacing_zyx_mm) & allowed[box]
    return smooth


def _small_holes(lung: Bools, spacing_zyx_mm: Spacing) -> Bools:
    """Return what the lung encloses in a slice and is no larger than a vessel, or encloses on all sides.

    The dome of the liver is enclosed in a slice, too.
    """
    holes = ndimage.binary_fill_holes(lung) & ~lung
    most_px = _LARGEST_VESSEL_MM2 / (spacing_zyx_mm[1] * spacing_zyx_mm[2])
    for z in np.nonzero(lung.any(axis=(1, 2)))[0]:
        parts, _ = ndimage.label(ndimage.binary_fill_holes(lung[z]) & ~lung[z])
        sizes = np.bincount(parts.ravel())
        holes[z] |= (parts > 0) & (sizes <= most_px)[parts]
    return holes


def _on_full_grid(hu_zyx: Values, factors: tuple[int, ...], coarse: Lungs, gas_zyx: Bools) -> Lungs:
    """Carry masks to the full grid; in a band of one coarse voxel around the border the threshold decides anew."""
    if all(factor == 1 for factor in factors):
        return coarse
    cross = ndimage.generate_binary_structure(3, 1)
    if factors[0] == 1:
        cross[[0, 2]] = False
    airways = _repeat(coarse.airways_zyx, factors, hu_zyx.shape)
    both = _repeat(coarse.left_zyx | coarse.right_zyx, factors, hu_zyx.shape)
    lungs = []
    for mask, other in ((coarse.left_zyx, coarse.right_zyx), (coarse.right_zyx, coarse.left_zyx)):
        core = _repeat(ndimage.binary_erosion(mask, cross, border_value=1), factors, hu_zyx.shape)
        reach = _repeat(ndimage.binary_dilation(mask, cross) & ~other & ~gas_zyx, factors, hu_zyx.shape)
        lungs.append((core | (reach & (hu_zyx < coarse.threshold_hu))) & ~airways)
    left, right = lungs
    return replace(coarse, left_zyx=left, right_zyx=right & ~(left & both), airways_zyx=airways)


def _repeat(mask: Bools, factors: tuple[int, ...], shape: tuple[int, ...]) -> Bools:
    for axis, factor in enumerate(factors):
        mask = np.repeat(mask, factor, axis=axis) if factor > 1 else mask
    return mask[: shape[0], : shape[1], : shape[2]]
