"""The drawings of the architecture page, as SVG written from the code: rooms from layers, states from the lifecycle.

`python -m tools.generated_docs` writes them; no program beyond Python is needed to make or to see them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dicom_node.core.lifecycle import TRANSITIONS
from tests.support.needs import REPOSITORY

_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
_LINE, _ROOM, _TEXT, _FAINT = "#5b6b7b", "#e8f0f7", "#16202a", "#5b6b7b"
_BOX_HEIGHT, _GAP, _COLUMN_GAP = 34, 12, 60
#: A letter is about this wide; boxes are made to fit their words.
_LETTER = 7.6

Transitions = Mapping[str, Set[str]]


@dataclass(frozen=True, slots=True)
class _Box:
    """A word in a frame, by its upper left corner; all in pixels."""

    text: str
    x: float
    y: float
    width: float

    @property
    def middle_y(self) -> float:
        return self.y + _BOX_HEIGHT / 2

    def drawn(self) -> str:
        return (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{_BOX_HEIGHT}" rx="5" '
            f'fill="{_ROOM}" stroke="{_LINE}"/>'
            f'<text x="{self.x + self.width / 2:g}" y="{self.middle_y + 5:g}" text-anchor="middle" '
            f'fill="{_TEXT}">{escape(self.text)}</text>'
        )


def drawings() -> Mapping[Path, str]:
    """Every drawing by the file it lies in."""
    images = REPOSITORY / "docs" / "images"
    return {images / "rooms.svg": rooms(layers()), images / "states.svg": states()}


# --- rooms -----------------------------------------------------------------------------------------------------------


def layers() -> Sequence[Sequence[str]]:
    """The rooms as the import contract has them, what knows most first."""
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    (named,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in named]


def rooms(of_layers: Sequence[Sequence[str]]) -> str:
    """One row for each layer; imports go downwards only, and not between the rooms of a row."""
    step = _BOX_HEIGHT + _GAP
    boxes = [box for row, layer in enumerate(of_layers) for box in _row(layer, 56.0, 10.0 + row * step)]
    height = 10 + len(of_layers) * step
    arrow = f'<path d="M28 12 V{height - 18}" stroke="{_LINE}" stroke-width="1.5" marker-end="url(#tip)"/>'
    place = f"translate(18 {height / 2:g}) rotate(-90)"
    caption = f'<text transform="{place}" text-anchor="middle" fill="{_FAINT}">imports</text>'
    width = max(box.x + box.width for box in boxes) + 10
    return _svg(width, height, "The rooms of the node, from the outside in", [arrow, caption, *_drawn(boxes)])


def _row(words: Sequence[str], x: float, y: float) -> Iterator[_Box]:
    for word in words:
        yield _Box(word, x, y, _width(word))
        x += _width(word) + _GAP


# --- states ----------------------------------------------------------------------------------------------------------


def states() -> str:
    """What studies, jobs, results, objects and deliveries go through; ways back stand above where they lead."""
    parts: list[str] = []
    y, width = 46.0, 0.0
    for name, transitions in TRANSITIONS.items():
        parts.append(f'<text x="10" y="{y - 26:g}" fill="{_FAINT}">{name}</text>')
        boxes = _placed(transitions, y)
        parts += [*_arrows(boxes, transitions), *_drawn(boxes.values()), *_ways_back(boxes, transitions)]
        width = max(width, *(box.x + box.width for box in boxes.values()))
        y = max(box.y for box in boxes.values()) + _BOX_HEIGHT + 66
    return _svg(width + 10, y - 52, "The states of what the node keeps", parts)


def _ranks(transitions: Transitions) -> Mapping[str, int]:
    """How many steps the longest way from the first state takes; what was declared earlier is a way back."""
    ranks = dict.fromkeys(transitions, 0)
    for old, new in _ways_on(transitions):
        ranks[new] = max(ranks[new], ranks[old] + 1)
    return ranks


def _ways_on(transitions: Transitions) -> Iterator[tuple[str, str]]:
    declared = list(transitions)
    for place, old in enumerate(declared):
        yield from ((old, new) for new in declared[place + 1 :] if new in transitions[old])


def _placed(transitions: Transitions, y: float) -> Mapping[str, _Box]:
    """One column for each rank, its states below each other."""
    ranks = _ranks(transitions)
    boxes, x = {}, 10.0
    for rank in range(max(ranks.values()) + 1):
        column = [state for state in transitions if ranks.get(state) == rank]
        width = max(map(_width, column))
        for row, state in enumerate(column):
            boxes[state] = _Box(state, x, y + row * (_BOX_HEIGHT + 26), width)
        x += width + _COLUMN_GAP
    return boxes


def _arrows(boxes: Mapping[str, _Box], transitions: Transitions) -> Iterator[str]:
    ranks = _ranks(transitions)
    for old, new in _ways_on(transitions):
        path = _path(boxes[old], boxes[new], is_next=ranks[new] == ranks[old] + 1)
        yield f'<path d="{path}" stroke="{_LINE}" fill="none" marker-end="url(#tip)"/>'


def _path(old: _Box, new: _Box, *, is_next: bool) -> str:
    """Lines along the axes: through the gap to the next column, and below the boxes to a farther one."""
    right, end = old.x + old.width, f"V{new.middle_y:g} H{new.x - 3:g}"
    if is_next:
        return f"M{right:g} {old.middle_y:g} H{new.x - _COLUMN_GAP / 2:g} {end}"
    return f"M{old.x + old.width / 2:g} {old.y + _BOX_HEIGHT:g} {end}"


def _ways_back(boxes: Mapping[str, _Box], transitions: Transitions) -> Iterator[str]:
    on = set(_ways_on(transitions))
    for new, box in boxes.items():
        back = [old for old in transitions if new in transitions[old] and old != new and (old, new) not in on]
        if back:
            told = "from every other" if len(back) == len(transitions) - 1 else f"again from {', '.join(back)}"
            yield f'<text x="{box.x:g}" y="{box.y - 6:g}" font-size="11" fill="{_FAINT}">{told}</text>'


# --- SVG -------------------------------------------------------------------------------------------------------------


def _width(word: str) -> float:
    return round(len(word) * _LETTER + 24)


def _drawn(boxes: Iterable[_Box]) -> Iterator[str]:
    return (box.drawn() for box in boxes)


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{_LINE}"/></marker></defs>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" role="img" {_FONT}>'
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", tip, ground, *parts, "</svg>"]) + "\n"
