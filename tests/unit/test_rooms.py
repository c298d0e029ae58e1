"""The house stays one that can be read: modules of one idea, short functions, small rooms, one thing to a name."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.needs import REPOSITORY
from tests.support.source_code import PRODUCT, modules_of, nodes_of, source_of

_LONGEST_MODULE, _LONGEST_FUNCTION, _LARGEST_ROOM = 400, 40, 16
#: The steps of the schema's past are as long as they were, one file each, and stay.
_PAST = REPOSITORY / "dicom_node" / "index" / "migrations" / "versions"


def modules(*more: str) -> Iterator[Path]:
    yield from (path for path in modules_of(*PRODUCT, *more) if _PAST not in path.parents)


def test_no_module_is_longer_than_one_idea() -> None:
    lengths = {str(path): len(source_of(path).splitlines()) for path in modules()}

    assert len(lengths) > 600
    assert {path: length for path, length in lengths.items() if length > _LONGEST_MODULE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    functions = [
        (f"{path}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for path in modules()
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert len(functions) > 4000
    assert {name: length for name, length in functions if length > _LONGEST_FUNCTION} == {}


def test_no_room_holds_more_modules_than_are_seen_at_once() -> None:
    rooms = Counter(str(path.parent) for path in modules("tools") if path.name != "__init__.py")

    assert {room: number for room, number in rooms.items() if number > _LARGEST_ROOM} == {}


def test_no_two_public_classes_have_one_name() -> None:
    named = defaultdict(list)
    for path in modules():
        module = nodes_of(path)[0]
        for node in module.body if isinstance(module, ast.Module) else ():
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named[node.name].append(str(path))

    assert {name: places for name, places in named.items() if len(places) > 1} == {}
