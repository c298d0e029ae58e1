"""How Sphinx makes a site of the same Markdown that a forge shows: `make docs`, warnings are errors.

The source folder is the repository, so that every link between its pages means the same on both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "DICOM AI Node"
copyright = "the authors of DICOM AI Node, Apache License 2.0"  # noqa: A001 - Sphinx's name
release = version = __version__
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/**", "*.md", "orthanc/README.md", "inference/models/*/README.md"]
exclude_patterns = [".*", "build", "dicom_node", "tests", "**/node_modules"]
html_theme = "furo"
html_use_index = False
html_title = f"DICOM AI Node {release}"
nitpicky = True
#: Links to headings are checked down to this level.
myst_heading_anchors = 4

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\((?!https?://|#)([^)#]+)\.md\)")


def setup(app: Sphinx) -> None:
    """Give index pages a table of contents, and the site a first page."""
    app.connect("source-read", _with_contents)
    app.connect("build-finished", _first_page)


def _with_contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append what Sphinx needs to know, and a forge would show as code: the pages that an index page links to."""
    if name.endswith("index"):
        source[0] += "".join(_contents(source[0]))


def _contents(text: str) -> Iterator[str]:
    """One table of contents for each section, or one for a page without sections; each page stands in the first."""
    seen: set[str] = set()
    _, *parts = _HEADING.split(text)
    for caption, body in zip(parts[::2], parts[1::2], strict=True) if parts else [("", text)]:
        pages = [page for page in dict.fromkeys(_PAGE.findall(body)) if page not in seen]
        seen.update(pages)
        head = f":caption: {caption}\n" if caption else ""
        yield "\n".join(["\n```{toctree}", f"{head}:hidden:\n", *pages, "```\n"])


def _first_page(app: Sphinx, error: Exception | None) -> None:
    """Lead from the folder of the site to the index, which lies below `docs` as in the repository."""
    if error is None:
        page = Path(app.outdir, "index.html")
        page.write_text(f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n', encoding="utf-8")
