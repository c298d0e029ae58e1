"""From the content of the page to the bytes of a PDF: PDF/A-2a for archives, PDF/UA-1 for screen readers.

Typst sets the page. It takes the text as data, so that no sign in it can be markup, and embeds fonts of its own.
Neither the fonts of this machine nor its clock get in: equal contents give equal bytes everywhere.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from importlib.resources import files
from typing import Any

import typst

_STANDARDS: list[Any] = ["a-2a", "ua-1"]


def pdf_bytes(content: Mapping[str, Any], picture_png: bytes | None, made_at: datetime) -> bytes:
    """Set the page; `made_at` is the aware time that stands in the document's metadata.

    Whatever there is to say goes on one page: `page.typ` tries smaller and smaller type, and at the end leaves rows out
    and says how many.
    """
    # Files by their name, which Typst takes and its type hints do not know.
    sources: Any = {"main.typ": _template()}
    if picture_png is not None:
        sources["picture.svg"] = _as_text(picture_png)
    compiler = typst.Compiler(sources, ignore_system_fonts=True, sys_inputs={"report": json.dumps(content)})
    made = compiler.compile(format="pdf", pdf_standards=_STANDARDS, timestamp=_fixed_offset(made_at))
    if not isinstance(made, bytes):
        raise TypeError(f"Typst made {type(made).__name__}, not one document; the version is not the pinned one.")
    return made


def _as_text(picture_png: bytes) -> bytes:
    """Wrap a picture in SVG: Typst takes files from memory only where they are text."""
    columns, rows = struct.unpack(">II", picture_png[16:24])
    size = f'width="{columns}" height="{rows}"'
    data = base64.b64encode(picture_png).decode("ascii")
    picture = f'<image {size} href="data:image/png;base64,{data}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{picture}</svg>'.encode("ascii")


@cache
def _template() -> bytes:
    return files(__package__).joinpath("page.typ").read_bytes()


def _fixed_offset(moment: datetime) -> datetime:
    """Typst takes whole seconds, and offsets instead of names of zones."""
    return moment.replace(microsecond=0, tzinfo=timezone(moment.utcoffset() or timedelta()))
