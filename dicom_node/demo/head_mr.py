"""Geometric heads, and what is none, on T1-weighted MR: for what a model must refuse.

A network outlines a part of such a head and is not sure of it: no formula was found that it takes for a patient's.

Places are those of a standard brain (RAS, mm, the anterior commissure at the origin).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from dicom_node.demo.mr_series import MrScan, mr_series

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Point = tuple[float, float, float]

#: Brightness of tissues, about that of an MPRAGE whose white matter is 0.5.
AIR, BONE, CSF, MUSCLE, GREY, WHITE, FAT = 0.0, 0.04, 0.10, 0.24, 0.33, 0.50, 0.62
_CORTEX_MM = 2.9
#: Of a paired structure, on the right side (+x): middle, half axes, turn about the x axis in degrees, brightness.
_PAIRED: tuple[tuple[Point, Point, float, float], ...] = (
    ((11, -18, 8), (8.5, 14, 9), 0, 0.40),  # thalamus
    ((13, 12, 9), (5, 11, 9), -20, 0.345),  # caudate
    ((26, 2, 2), (5.5, 16, 9.5), 0, 0.37),  # putamen
    ((19, -3, -1), (4, 8.5, 6), 0, 0.44),  # pallidum
    ((26, -21, -14), (6.5, 20, 5.5), -20, 0.335),  # hippocampus
    ((22, -3, -19), (7, 8, 7.5), 0, 0.325),  # amygdala
    ((9, 11, -7), (4, 5.5, 4), 0, 0.34),  # accumbens
)
_MIDDLE: tuple[tuple[Point, Point, float, float], ...] = (
    ((0, -25, -14), (14, 11, 11), 0, 0.46),  # midbrain
    ((0, -28, -32), (16, 14, 13), 0, 0.46),  # pons
    ((0, -38, -55), (9, 9, 22), 12, 0.46),  # medulla
)


Place = tuple[Floats, Floats, Floats]


def head(x_mm: Floats, y_mm: Floats, z_mm: Floats) -> Floats:
    """Return the brightness (x, y, z) of the head on a grid of coordinates of equal steps."""
    x, y, z = (one.astype(np.float32) for one in np.meshgrid(x_mm, y_mm, z_mm, indexing="ij", sparse=True))
    at, step_mm = (x, y, z), float(abs(x_mm[1] - x_mm[0]))
    values = np.full((len(x_mm), len(y_mm), len(z_mm)), AIR, np.float32)
    _paint_skull(values, at)
    cerebellum = _inside(at, (0, -63, -38), (52, 31, 24)) & (z < -14 - 0.45 * (y + 50))
    _paint_cerebrum(values, _cerebrum(at) & ~_grown(cerebellum, 2.0 / step_mm), at, step_mm)
    _paint_cerebellum(values, cerebellum, at, step_mm)
    for mask, brightness in _solid(at):
        values[mask] = brightness
    for mask in _ventricles(at):
        values[mask] = CSF
    return values


def _grown(mask: Bools, voxels: float) -> Bools:
    found: Bools = ndimage.distance_transform_edt(~mask) <= voxels
    return found


def _inside(at: Place, middle: Point, axes: Point, turn_degrees: float = 0.0) -> Bools:
    """Tell what lies in an ellipsoid, turned about the axis from right to left."""
    cosine, sine = np.cos(np.radians(turn_degrees)), np.sin(np.radians(turn_degrees))
    dx, dy, dz = (one - centre for one, centre in zip(at, middle, strict=True))
    along, across = cosine * dy + sine * dz, cosine * dz - sine * dy
    found: Bools = (dx / axes[0]) ** 2 + (along / axes[1]) ** 2 + (across / axes[2]) ** 2 <= 1.0
    return found


def _cerebrum(at: Place) -> Bools:
    """Tell where the hemispheres are: a dome, the bases of the frontal and occipital lobes, the temporal lobes."""
    x, y, z = at
    dome = _inside(at, (0, -17, 8), (69, 88, 68)) & (z > -2)
    frontal = _inside(at, (0, -17, 8), (69, 88, 68)) & (y > 12) & (z > -22) & (abs(x) < 50)
    occipital = _inside(at, (0, -17, 8), (69, 88, 68)) & (y < -48) & (z > -14)
    core = _inside(at, (0, -6, -2), (34, 26, 18))
    found = dome | frontal | occipital | core
    for side in (-1, 1):
        found |= _inside(at, (side * 45, -12, -20), (21, 38, 19), -8) | _inside(
            at, (side * 42, -45, -8), (22, 30, 16), 10
        )
    return found


def _paint_skull(values: Floats, at: Place) -> None:
    """Paint neck, face, scalp and skull, from the outside in, and the water around the brain."""
    x, y, z = at
    values[(((x / 55) ** 2 + ((y + 30) / 60) ** 2) <= 1) & (z < -30)] = MUSCLE
    values[_inside(at, (0, 40, -55), (58, 45, 55))] = MUSCLE
    for axes, brightness in (((86, 106, 92), FAT), ((81, 101, 87), BONE), ((78, 97, 83), 0.2), ((77, 96, 82), BONE)):
        values[_inside(at, (0, -17, 0), axes)] = brightness
    values[_inside(at, (0, -17, 2), (73, 92, 76)) & (z > -66)] = CSF
    values[(z < -40) & (values == BONE) & (abs(x) < 60)] = MUSCLE
    values[_inside(at, (0, 35, -45), (62, 42, 26))] = MUSCLE


def _paint_cerebrum(values: Floats, inside: Bools, at: Place, step_mm: float) -> None:
    """Paint white matter with a folded cortex around it."""
    x, y, z = at
    depth = ndimage.distance_transform_edt(inside) * step_mm
    u = x + 5 * np.sin(y / 15) + 4 * np.sin(z / 11)
    v = y + 5 * np.sin(z / 16) + 4 * np.sin(x / 12)
    w = z + 5 * np.sin(x / 14) + 4 * np.sin(y / 13)
    k = 2 * np.pi / 25
    folds = np.sin(k * u) * np.cos(k * v) + np.sin(k * v) * np.cos(k * w) + np.sin(k * w) * np.cos(k * u)
    sulci = inside & (abs(folds) < 0.13) & (depth < 19)
    sulci |= inside & (abs(x) < 1.2) & ((z > 26) | (y > 34) | (y < -46) | ((z < -8) & (y > 8)))
    sulci |= inside & (abs(x) > 39) & (abs(z + 3 - 0.35 * (y + 10)) < 1.4) & (y > -40) & (y < 28)
    sulci |= inside & (abs(abs(x) - 40) < 1.2) & (z > -6) & (z < 20) & (y > -22) & (y < 24)
    tissue = inside & ~sulci
    cortex = tissue & (ndimage.distance_transform_edt(tissue) * step_mm <= _CORTEX_MM)
    cortex &= ~_inside(at, (0, -14, 2), (30, 24, 22))
    white = tissue & ~cortex
    values[inside & sulci], values[cortex], values[white] = CSF, GREY, WHITE


def _paint_cerebellum(values: Floats, inside: Bools, at: Place, step_mm: float) -> None:
    """Paint a core of white matter with leaves of cortex around it."""
    x, y, z = at
    depth = ndimage.distance_transform_edt(inside) * step_mm
    angle = np.arctan2(z + 36, y + 42) + 0.08 * np.sin(x / 9)
    fissures = inside & (abs(np.sin(angle * 10)) < 0.09) & (depth < 10)
    core = _inside(at, (0, -56, -37), (36, 14, 9)) | (_inside(at, (0, -48, -36), (14, 12, 8)))
    blades = (abs(np.sin(angle * 10 + np.pi / 2)) < 0.22) & (depth > 3.5) & (abs(x) > 4)
    white = inside & (core | blades) & ~fissures
    cortex = inside & ~white & ~fissures
    values[fissures], values[cortex], values[white] = CSF, GREY - 0.01, WHITE - 0.01


def _solid(at: Place) -> Iterator[tuple[Bools, float]]:
    """Yield brainstem and deep nuclei with their brightness."""
    for middle, axes, turn, brightness in _MIDDLE:
        yield _inside(at, middle, axes, turn), brightness
    for (aside, ahead, up), axes, turn, brightness in _PAIRED:
        for sign in (1, -1):
            yield _inside(at, (sign * aside, ahead, up), axes, turn), brightness


def _ventricles(at: Place) -> Iterator[Bools]:
    for sign in (1, -1):
        yield _inside(at, (sign * 7, 14, 11), (3.5, 16, 6), -12)
        yield _inside(at, (sign * 11, -14, 21), (5.5, 25, 4))
        yield _inside(at, (sign * 24, -42, 10), (5, 13, 8), 30)
        yield _inside(at, (sign * 32, -20, -9), (2.5, 16, 1.8), -20)
    yield _inside(at, (0, -12, -1), (2.2, 14, 10))
    yield _inside(at, (0, -44, -34), (6, 5, 9))


#: What `head_mr_phantom` can show.
KINDS = ("head", "upside-down", "wrong-axes", "missing-third", "half-spacing", "ct", "fruit", "bottle", "empty")
_STEP_MM = 2.0
_SCAN = MrScan()


def head_mr_phantom(
    kind: str = "head", *, scale: float = 0.75, slice_spacing_mm: float = _STEP_MM, scan: MrScan = _SCAN
) -> list[Dataset]:
    """Make an axial MR series of one of `KINDS`; `scale` 1 is the head of an adult, smaller ones are quicker to answer
    for. Equal arguments give equal bytes and UIDs. Raises `TypeError` for another kind."""
    if kind not in KINDS:
        raise TypeError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    grid = [np.arange(low, high, _STEP_MM / scale) for low, high in ((-94, 94), (-130, 98), (-78, 100))]
    values = _shown(kind, (grid[0], grid[1], grid[2]))
    if kind != "empty":
        noise = np.random.default_rng(1).normal(0.0, 0.012, values.shape)
        values = np.clip(ndimage.gaussian_filter(values, 0.3) + noise, 0.0, None)
    every = max(1, round(slice_spacing_mm / _STEP_MM))
    step_mm = 1.0 if kind == "half-spacing" else _STEP_MM
    # Columns grow to the left, rows to the back: the grid grows to the right and to the front.
    values_zyx = values[::-1, ::-1, ::every].transpose(2, 1, 0)
    affine = np.diag([step_mm, step_mm, step_mm * every, 1.0])
    affine[:3, 3] = [-step_mm * size / 2 for size in values.shape]
    return mr_series(values_zyx, affine, scan)


def _shown(kind: str, grid: tuple[Floats, Floats, Floats]) -> Floats:
    at = tuple(np.meshgrid(*grid, indexing="ij", sparse=True))
    place: Place = (at[0], at[1], at[2])
    if kind == "empty":
        return np.zeros([len(one) for one in grid], np.float32)
    if kind in {"fruit", "bottle"}:
        return _fruit(place) if kind == "fruit" else _bottle(place)
    values = head(*grid)
    if kind == "ct":
        values = np.select([values == BONE, values == FAT, values > AIR], [1.0, 0.25, 0.32], 0.0).astype(np.float32)
    if kind == "missing-third":
        values = values[:, :, : len(grid[2]) * 2 // 3]
    if kind == "upside-down":
        values = values[:, :, ::-1]
    return np.moveaxis(values, (0, 1, 2), (1, 2, 0)) if kind == "wrong-axes" else values


def _fruit(at: Place) -> Floats:
    """Paint a peel, flesh in segments and a few seeds."""
    x, y, z = at
    values = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)
    values[_inside(at, (0, -16, 10), (75, 75, 72))] = 0.55
    values[_inside(at, (0, -16, 10), (70, 70, 67))] = 0.15
    flesh = _inside(at, (0, -16, 10), (66, 66, 63)) & (abs(np.sin(5 * np.arctan2(y + 16, x))) > 0.12)
    values[flesh] = 0.42
    values[_inside(at, (0, -16, 10), (8, 8, 60))] = 0.2
    return values


def _bottle(at: Place) -> Floats:
    """Paint a wall of plastic, which gives no signal, around oil over water."""
    x, y, z = at
    values = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)
    inside = (np.hypot(x, y + 16) < 60) & (z > -70) & (z < 90)
    values[inside] = 0.35
    values[inside & (z > 30)] = 0.6
    return values
