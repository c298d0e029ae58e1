"""Small drawing tools shared by all pictures: fonts, text that fits, colours, blending, outlines, and PNG at last."""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.sr_writer.text import ascii_text

Rgb = tuple[int, int, int]
FloatMap = NDArray[np.float32]
RgbUint8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

BACKGROUND: Rgb = (14, 17, 22)
PANEL: Rgb = (28, 33, 41)
LINE: Rgb = (66, 75, 88)
TEXT: Rgb = (236, 239, 243)
MUTED: Rgb = (165, 174, 186)
AMBER: Rgb = (255, 184, 28)
RED: Rgb = (232, 74, 62)
BLUE: Rgb = (94, 170, 255)

#: Anatomy must stay visible below the hottest spot.
MAX_HEAT_ALPHA = 0.4
#: Below the first value nothing is laid over the image; from the second on the overlay has its full alpha.
HEAT_STARTS, _HEAT_FULL = 0.25, 0.6
#: Dark red, red, orange, yellow: rises in brightness throughout, so it also reads in gray.
_HEAT_STOPS = np.array([(70, 0, 30), (190, 20, 30), (245, 120, 25), (255, 210, 60)], dtype=np.float32)
_HEAT_STEPS = 1023


@lru_cache(maxsize=64)
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """Return the font that ships with pillow, at a height in pixels."""
    loaded = ImageFont.load_default(max(8, size_px))
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType, so text cannot be drawn; install the pillow wheel.")
    return loaded.font_variant(layout_engine=ImageFont.Layout.BASIC)  # ASCII needs no shaping


@lru_cache(maxsize=4096)
def text_width(text: str, size_px: int) -> int:
    """Return the width in pixels that `text` takes."""
    return int(font(size_px).getlength(text) + 0.5)


def clipped(text: str, size_px: int, width_px: int) -> str:
    """Return `text` in ASCII, shortened with dots when it is wider than `width_px`; nothing where dots do not fit."""
    plain = ascii_text(text)
    if text_width(plain, size_px) <= width_px:
        return plain
    lengths = range(len(plain) + 1)
    kept = bisect_right(lengths, width_px, key=lambda length: text_width(f"{plain[:length]}...", size_px)) - 1
    return plain[:kept].rstrip() + "..." if kept > 0 else ""


def wrapped(text: str, size_px: int, width_px: int, most_lines: int | None = None) -> list[str]:
    """Break `text` at blanks into ASCII lines of `width_px` at most; longer words and more lines are cut with dots."""
    lines: list[str] = []
    for word in ascii_text(text).split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size_px) <= width_px:
            lines[-1] = joined
        else:
            lines.append(word)
    if most_lines is not None and len(lines) > most_lines:
        lines = [*lines[: most_lines - 1], " ".join(lines[most_lines - 1 :])]
    return [clipped(line, size_px, width_px) for line in lines]


def folded(text: str, size_px: int, width_px: int, most_lines: int) -> list[str]:
    """Break `text` into ASCII lines as `wrapped` does, but longer words too: nothing is lost up to `most_lines`."""
    pieces = (piece for word in ascii_text(text).split() for piece in _pieces(word, size_px, width_px))
    return wrapped(" ".join(pieces), size_px, width_px, most_lines)


def _pieces(word: str, size_px: int, width_px: int) -> list[str]:
    """Cut a word where the line ends."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and text_width(pieces[-1] + letter, size_px) > width_px:
            pieces.append("")
        pieces[-1] += letter
    return pieces


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws ASCII text and shapes on one image."""

    draw: ImageDraw.ImageDraw

    def text(self, xy: tuple[float, float], text: str, size_px: int, color: Rgb = TEXT) -> None:
        """Draw one line with its upper left corner at `xy`."""
        self.draw.text(xy, ascii_text(text), font=font(size_px), fill=color)

    def text_right(self, xy: tuple[float, float], text: str, size_px: int, color: Rgb = TEXT) -> None:
        """Draw one line with its upper right corner at `xy`."""
        self.draw.text(xy, ascii_text(text), font=font(size_px), fill=color, anchor="ra")

    def text_centered(self, xy: tuple[float, float], text: str, size_px: int, color: Rgb = TEXT) -> None:
        """Draw one line centered on `xy`."""
        self.draw.text(xy, ascii_text(text), font=font(size_px), fill=color, anchor="mm")

    def box(self, corners: tuple[float, float, float, float], fill: Rgb, outline: Rgb | None = None) -> None:
        """Draw a filled rectangle (left, top, right, bottom)."""
        self.draw.rectangle(corners, fill=fill, outline=outline)

    def line(self, points: list[tuple[float, float]], color: Rgb, width_px: int = 1) -> None:
        """Draw a line through all points."""
        self.draw.line(points, fill=color, width=max(1, width_px), joint="curve")


def heat_colors(values: FloatMap) -> RgbUint8:
    """Return the colour of each value 0..1; shape (...,) becomes (..., 3)."""
    return np.asarray(_heat_table()[(np.clip(values, 0.0, 1.0) * _HEAT_STEPS + 0.5).astype(np.uint16)])


@lru_cache(maxsize=1)
def _heat_table() -> RgbUint8:
    """Return the colours of `_HEAT_STEPS` + 1 values; looking up costs a tenth of computing each pixel's colour."""
    stops = np.linspace(0.0, 1.0, len(_HEAT_STOPS))
    steps = np.linspace(0.0, 1.0, _HEAT_STEPS + 1)
    return np.stack([np.interp(steps, stops, _HEAT_STOPS[:, c]) + 0.5 for c in range(3)], axis=1).astype(np.uint8)


def heat_alpha(values: FloatMap) -> FloatMap:
    """Return how much of the heat colour covers the image: nothing where it is cold, at most `MAX_HEAT_ALPHA`."""
    ramp = np.clip((values - HEAT_STARTS) / (_HEAT_FULL - HEAT_STARTS), 0.0, 1.0)
    return np.asarray(ramp * MAX_HEAT_ALPHA, dtype=np.float32)


def blended(image: RgbUint8, heat: FloatMap) -> RgbUint8:
    """Lay `heat` (rows, columns; 0..1) over `image` (rows, columns, 3)."""
    covered = heat > HEAT_STARTS
    alpha = heat_alpha(heat[covered])[:, np.newaxis]
    laid = image.copy()
    laid[covered] = (image[covered] * (1 - alpha) + heat_colors(heat[covered]) * alpha + 0.5).astype(np.uint8)
    return laid


def draw_outline(image: RgbUint8, mask: Mask, color: Rgb, width_px: int) -> None:
    """Draw the inner border of `mask` (rows, columns) onto `image`, in place."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return
    box = tuple(slice(max(0, int(at[0]) - 1), int(at[-1]) + 2) for at in (rows, columns))
    inside = mask[box]
    core = inside
    for _ in range(max(1, width_px)):
        core = _eroded(core)
    image[box][inside & ~core] = color


def _eroded(mask: Mask) -> Mask:
    """Take one pixel off every border (4-neighbours); the edge of the picture is no border."""
    padded = np.pad(mask, 1, mode="edge")
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def resized_rgb(image: NDArray[np.uint8], width_px: int, height_px: int) -> RgbUint8:
    """Scale a gray (rows, columns) or RGB image smoothly; the result is RGB (`height_px`, `width_px`, 3)."""
    smaller = width_px < image.shape[1] or height_px < image.shape[0]
    smooth = Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC
    scaled = np.asarray(Image.fromarray(image).resize((width_px, height_px), smooth))
    return scaled if scaled.ndim == 3 else gray_rgb(scaled)


def gray_rgb(gray: NDArray[np.uint8]) -> RgbUint8:
    """Return a gray image (rows, columns) as RGB."""
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2)


def resized_map(values: FloatMap, width_px: int, height_px: int) -> FloatMap:
    """Scale a map 0..1 smoothly."""
    scaled = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32)).resize(
        (width_px, height_px), Image.Resampling.BILINEAR
    )
    return np.clip(np.asarray(scaled, dtype=np.float32), 0.0, 1.0)


def resized_mask(mask: Mask, width_px: int, height_px: int) -> Mask:
    """Scale a mask without inventing values."""
    scaled = Image.fromarray(mask.astype(np.uint8)).resize((width_px, height_px), Image.Resampling.NEAREST)
    return np.asarray(scaled).astype(bool)


# --- PNG: one row filter for all rows, where Pillow tries each on each row -------------------------------------------

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT_RGB = (8, 2, 0, 0, 0)  # depth, colour type, compression, filter method, interlace (PNG 11.2.2)
_UP = 2  # each byte minus the one above it (PNG 9.2)
_FAST = 1


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    """Encode a picture (rows, columns, 3) without loss."""
    rows, columns, _ = rgb.shape
    flat = np.ascontiguousarray(rgb).reshape(rows, columns * 3)
    filtered = np.empty((rows, columns * 3 + 1), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=filtered[1:, 1:])
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, *_EIGHT_BIT_RGB)),
            _chunk(b"IDAT", zlib.compress(filtered.tobytes(), _FAST)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
