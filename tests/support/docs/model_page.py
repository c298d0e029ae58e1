"""The examples of docs/how-to/bring-a-model.md as files, so that tests run what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.needs import REPOSITORY

PAGE = REPOSITORY / "docs" / "how-to" / "bring-a-model.md"
_LISTING = re.compile(r"```\w+ (\S+)\n(.*?)```", re.DOTALL)


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def write_example(heading: str, folder: Path) -> Path:
    """Write the listings under "Example: …" into `folder`; return it."""
    section = text().split(f"## Example: {heading}\n")[1].split("\n## ")[0]
    for name, listing in _LISTING.findall(section):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(listing, encoding="utf-8")
    return folder
