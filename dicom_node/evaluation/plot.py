"""Three drawings of an evaluation side by side: ROC, calibration, and where the probabilities lie. Pillow only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from dicom_node.evaluation.run import Outcome

_SIDE_PX, _MARGIN_PX, _TITLE_PX = 360, 56, 40
_INK, _GRID, _BLUE, _ORANGE = (30, 30, 34), (220, 222, 228), (30, 90, 200), (222, 120, 20)
_BINS = 20

#: From a point of 0..1, 0..1 to pixels.
Place = Callable[[float, float], tuple[float, float]]


def draw(path: Path, title: str, figures: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write the drawing as PNG. `figures` are those of an evaluation with at least one counted image."""
    panel_px = _SIDE_PX + 2 * _MARGIN_PX
    image = Image.new("RGB", (3 * panel_px, panel_px + _TITLE_PX), "white")
    pen = ImageDraw.Draw(image)
    pen.text((_MARGIN_PX, 14), title, fill=_INK, font=_font(20))
    auroc = figures["analysed"]["auroc"]["value"]
    _roc(pen, _panel(pen, 0, f"ROC, AUROC {_told(auroc)}", ("false positive rate", "true positive rate")), figures)
    error = figures["analysed"]["expected_calibration_error"]["value"]
    axes = ("stated probability", "observed share")
    _calibration(pen, _panel(pen, 1, f"Calibration, error {_told(error)}", axes), figures)
    _histogram(pen, _panel(pen, 2, "Blue: negative, orange: positive", ("probability", "share of class")), outcomes)
    image.save(path)


def _panel(pen: ImageDraw.ImageDraw, number: int, title: str, axes: tuple[str, str]) -> Place:
    left, top = number * (_SIDE_PX + 2 * _MARGIN_PX) + _MARGIN_PX, _MARGIN_PX + _TITLE_PX

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x * _SIDE_PX, top + (1 - y) * _SIDE_PX

    for tenth in range(0, 11, 2):
        at = tenth / 10
        pen.line([place(at, 0), place(at, 1)], fill=_GRID)
        pen.line([place(0, at), place(1, at)], fill=_GRID)
        pen.text((place(at, 0)[0] - 8, top + _SIDE_PX + 4), f"{at:g}", fill=_INK, font=_font(12))
        pen.text((left - 24, place(0, at)[1] - 7), f"{at:g}", fill=_INK, font=_font(12))
    pen.rectangle([place(0, 1), place(1, 0)], outline=_INK)
    pen.text((left, top - 22), f"{title}   (up: {axes[1]})", fill=_INK, font=_font(13))
    pen.text((left + _SIDE_PX / 2 - 50, top + _SIDE_PX + 22), axes[0], fill=_INK, font=_font(13))
    return place


def _roc(pen: ImageDraw.ImageDraw, place: Place, figures: dict[str, Any]) -> None:
    pen.line([place(0, 0), place(1, 1)], fill=_GRID, width=2)
    points = [place(x, y) for x, y in figures["roc"]]
    if points:
        pen.line(points, fill=_BLUE, width=3)
    confusion = figures["analysed"]["confusion"]
    sensitivity, specificity = (figures["analysed"][name]["value"] for name in ("sensitivity", "specificity"))
    if sensitivity is not None and specificity is not None and sum(confusion.values()):
        _dot(pen, place(1 - specificity, sensitivity), 6)


def _calibration(pen: ImageDraw.ImageDraw, place: Place, figures: dict[str, Any]) -> None:
    pen.line([place(0, 0), place(1, 1)], fill=_GRID, width=2)
    bins = figures["calibration"]
    largest = max(one["images"] for one in bins)
    pen.line([place(one["stated"], one["observed"]) for one in bins], fill=_BLUE, width=2)
    for one in bins:
        _dot(pen, place(one["stated"], one["observed"]), 3 + 7 * (one["images"] / largest) ** 0.5)


def _histogram(pen: ImageDraw.ImageDraw, place: Place, outcomes: Sequence[Outcome]) -> None:
    for truth, colour, shift in ((False, _BLUE, 0.0), (True, _ORANGE, 0.45)):
        scores = [o.probability for o in outcomes if o.counts and o.image.truth is truth and o.probability is not None]
        for index in range(_BINS):
            inside = sum(min(int(score * _BINS), _BINS - 1) == index for score in scores)
            if inside:
                x = (index + 0.05 + shift) / _BINS
                pen.rectangle([place(x, inside / len(scores)), place(x + 0.45 / _BINS, 0)], fill=colour)


def _dot(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: float) -> None:
    x, y = at
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_ORANGE, outline=_INK)


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
