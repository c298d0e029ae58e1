"""On which line a key stands, however it is written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.config.toml_lines import KeyPath, line_numbers

TEXT = '''# a comment with [brackets] = and "quotes"
top = 1

[node]   # 4
ae_title = "A # no comment"
"quoted key" = 'it''s' # 6
'a.b' = 2
dicom.port = 104
dicom."x y".z = [ 1,
  2, # 10
  "]",
]
text = """
[not.a.table]
port = 5 \\""" still text
"""
lit = \'\'\'
[[neither]]\'\'\'
after = 1979-05-27 07:32:00

[[destination]]
name = "a" # 22
outputs = { sr = "x", deep = { er = [ { k = 1 }, { k = 2 } ] } }

[[ destination ]]
name = "b"
[destination.outputs]
segmentation = "off" # 28
[[destination.extra]]
n = 1
[[destination.extra]]
n = 2
'''.replace("'it''s'", "'its'")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("node",), 4),
        (("node", "ae_title"), 5),
        (("node", "quoted key"), 6),
        (("node", "a.b"), 7),
        (("node", "dicom", "port"), 8),
        (("node", "dicom", "x y", "z"), 9),
        (("node", "dicom", "x y", "z", 1), 10),
        (("node", "text"), 13),
        (("node", "lit"), 17),
        (("node", "after"), 19),
        (("destination",), 21),
        (("destination", 0, "name"), 22),
        (("destination", 0, "outputs", "sr"), 23),
        (("destination", 0, "outputs", "deep", "er", 1, "k"), 23),
        (("destination", 1), 25),
        (("destination", 1, "outputs", "segmentation"), 28),
        (("destination", 1, "extra", 1, "n"), 32),
    ],
)
def test_a_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    assert line_numbers(TEXT)[path] == line


def test_every_key_of_the_text_is_found_and_no_other() -> None:
    assert set(line_numbers(TEXT)) == paths_in(tomllib.loads(TEXT))


def test_what_stands_above_a_header_is_found_where_it_was_first_named() -> None:
    lines = line_numbers("[a.b.c]\n[[a.d.e]]\n[a.d]\nx = 1\n")
    assert lines == {
        ("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1,
        ("a", "d"): 2, ("a", "d", "e"): 2, ("a", "d", "e", 0): 2, ("a", "d", "x"): 4,
    }  # fmt: skip


KEYS = st.text("ab.\"'= #[]{},\n\\é", min_size=1, max_size=4)
SCALARS = st.integers() | st.booleans() | st.text("a\"'\\#[]{},=\n", max_size=6)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3), max_leaves=8
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_stands_in_inline_tables_lists_and_strings_is_walked_over_rightly(values: dict[str, Any]) -> None:
    text = "".join(f"{quoted(key)} = {written(value)}\n" for key, value in values.items())

    assert tomllib.loads(text) == values
    assert set(line_numbers(text)) == paths_in(values)
    assert [line_numbers(text)[(key,)] for key in values] == list(range(1, len(values) + 1))


def paths_in(value: Any, at: KeyPath = ()) -> set[KeyPath]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {at for _ in at[:1]} | {path for key, below in members for path in paths_in(below, (*at, key))}


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {written(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return quoted(value) if isinstance(value, str) else str(value).lower()
