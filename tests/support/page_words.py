"""The words of the page as data: what a file of them says, and what its functions make of values."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support.needs import REPOSITORY, tool

PAGE = REPOSITORY / "dicom_node" / "api" / "page"
#: Stands in what a function says for the value with this number.
MARK = "⟦{}⟧"
_READ = """
const told = (said) => {
    const marks = Array.from({ length: said.length }, (_, place) => `⟦${place}⟧`);
    const say = () => { try { return String(said(...marks)); } catch { return null; } };
    return { arity: said.length, text: say() };
};
const leaves = (tree, way) => Object.entries(tree).flatMap(([key, said]) =>
    typeof said === 'function' ? [[`${way}${key}`, told(said)]]
    : said && typeof said === 'object' ? leaves(said, `${way}${key}.`)
    : [[`${way}${key}`, { arity: 0, text: String(said) }]]);
console.log(JSON.stringify({
    strings: JSON.parse(JSON.stringify(STRINGS, (_, one) => (typeof one === 'function' ? null : one))),
    said: Object.fromEntries(leaves(STRINGS, '')),
}));
"""


def strings_of(code: str) -> dict[str, Any]:
    """Return STRINGS of a file of words as JSON; a function is told as null."""
    strings: dict[str, Any] = _read(code)["strings"]
    return strings


def said_by(code: str) -> dict[str, tuple[int, str | None]]:
    """Return for each way to words (lists have numbers) how many values they take, and what they say, values marked.

    `None`: it needs values of another kind than text to say anything.
    """
    return {way: (told["arity"], told["text"]) for way, told in _read(code)["said"].items()}


def _read(code: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "strings.mjs"
        module.write_text(code, encoding="utf-8")
        script = f"import {{ STRINGS }} from {json.dumps(module.as_uri())};{_READ}"
        command = [tool("node", "nodejs"), "--input-type=module", "--eval", script]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    told: dict[str, Any] = json.loads(said)
    return told
