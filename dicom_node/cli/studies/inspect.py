"""`dicom-node inspect`: an object of ours or of others, printed as a person would want to read it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.text import Text
from rich.tree import Tree

from dicom_node.cli.terminal import console, print_json, print_table, say
from dicom_node.core.errors import SettingsError, UnreadableObject
from dicom_node.inspect import ContentItem, Description, Inspected, Inspector, InspectRequest, name_of
from dicom_node.logs import quiet_third_parties

#: Of so many alike references the first few are shown.
_MOST_ALIKE, _SHOWN_OF_ALIKE = 8, 3
_DRAWN_COLUMNS = 72


def inspect(options: argparse.Namespace) -> int:
    """Describe each file; the exit status is 1 when any could not be read."""
    quiet_third_parties()
    if len(options.files) > 1 and (options.picture or options.document):
        raise SettingsError("--picture and --document take one FILE; name one.")
    wants_picture = bool(options.picture or options.draw)
    inspector, seen, failed = Inspector(), [], []
    try:
        for path in options.files:
            request = InspectRequest(path=path, show_patient=options.show_patient, picture=wants_picture)
            try:
                seen.append((path, inspector.look(request)))
            except UnreadableObject as error:
                failed.append({"file": str(path), "error": {"kind": type(error).__name__, "text": str(error)}})
                sys.stderr.write(f"dicom-node: {error}\n")
                continue
            _write(seen[-1][1], options)
            if not options.json:
                _show(path, seen[-1][1], options)
    finally:
        inspector.close()
    if options.json:
        print_json([*({"file": str(path), **_as_data(one.description)} for path, one in seen), *failed])
    return 1 if failed else 0


def _as_data(description: Description) -> dict[str, object]:
    """Return facts by their name; a name that comes twice has a list."""
    facts: dict[str, object] = {}
    for name, pairs in groupby(sorted(description.facts, key=lambda pair: pair[0]), key=lambda pair: pair[0]):
        values = [text for _, text in pairs]
        facts[name] = values[0] if len(values) == 1 else values
    tables = [
        {"title": table.title, "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}
        for table in description.tables
    ]
    kept = {"kind": description.kind, "facts": facts, "tables": tables, "notes": description.notes}
    return kept | {"content": description.tree}


def _write(inspected: Inspected, options: argparse.Namespace) -> None:
    """Write picture and document to where they are wanted."""
    try:
        if options.picture and inspected.picture_rgb is not None:
            Image.fromarray(inspected.picture_rgb).save(options.picture, format="PNG")
        if options.document:
            if inspected.document is None:
                raise UnreadableObject("There is no document in this object to be written.")
            options.document.write_bytes(inspected.document)
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be written: {error.strerror}.") from error


def _show(path: Path, inspected: Inspected, options: argparse.Namespace) -> None:
    description = inspected.description
    say(f"{description.kind}: {name_of(Path(path.name))}")
    width = max(len(name) for name, _ in description.facts)
    for name, text in description.facts:
        say(f"  {name:<{width}}  {text}")
    if description.tree is not None:
        console.print(_tree(description.tree, codes=options.codes, everything=options.all))
    for table in description.tables:
        print_table(table.columns, table.rows, title=table.title)
    for note in description.notes:
        say(f"  note: {note}")
    if options.draw and inspected.picture_rgb is not None:
        console.print(_blocks(inspected.picture_rgb))
    say("")


def _tree(node: ContentItem, *, codes: bool, everything: bool) -> Tree:
    tree = Tree(_label(node, codes=codes), guide_style="dim")
    for child in _children(node.children, everything=everything):
        if isinstance(child, str):
            tree.add(Text(child, "dim"))
        else:
            tree.children.append(_tree(child, codes=codes, everything=everything))
    return tree


def _children(children: Sequence[ContentItem], *, everything: bool) -> Iterator[ContentItem | str]:
    """Return the children; of a long run of references of one kind only the first few, and how many follow."""
    for _, run in groupby(children, key=lambda child: (child.value_type, child.name, bool(child.children))):
        alike = list(run)
        if everything or len(alike) <= _MOST_ALIKE or alike[0].value_type not in {"IMAGE", "COMPOSITE"}:
            yield from alike
        else:
            yield from alike[:_SHOWN_OF_ALIKE]
            yield f"… and {len(alike) - _SHOWN_OF_ALIKE} more such references (--all shows them)"


def _label(node: ContentItem, *, codes: bool) -> Text:
    label = Text(node.name or node.value_type or "item", "bold")
    if codes and node.name_code:
        label.append(f" ({node.name_code})", "dim")
    if node.value:
        label.append(": ", "")
        label.append(node.value, "")
    if codes:
        told = (node.value_code, f"{node.relationship} {node.value_type}".strip())
        label.append(f" ({'; '.join(part for part in told if part)})", "dim")
    if node.template:
        label.append(f"  [{node.template}]", "dim")
    return label


def _blocks(rgb: NDArray[np.uint8]) -> Text:
    """Return a picture as half blocks: two rows of pixels in each line of text."""
    columns = min(_DRAWN_COLUMNS, console.width)
    rows = max(2, round(rgb.shape[0] * columns / rgb.shape[1] / 2) * 2)
    small = np.asarray(Image.fromarray(rgb).resize((columns, rows), Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(small[0::2], small[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", f"rgb({','.join(map(str, above))}) on rgb({','.join(map(str, below))})")
        text.append("\n")
    return text
