"""The files of the page, under addresses that change with them: a browser asks for each once, not whenever it opens it.

`/page/VERSION-LANGUAGE/app.js` is a file as it was when the node was built; its modules name each other by where they
lie, and so have the same version. Of the words there is a file for each language, and each is `strings.js` there.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from dicom_node.api.page_modules import AT, linked, modules_later

PAGE = Path(__file__).resolve().parent / "page"
#: The file of words, by language.
WORDS = {"en": "strings.js", "de": "strings_de.js"}
#: Holds what somebody has chosen on the page; it says nothing of who that is.
LANGUAGE_COOKIE = "language"
_VERSIONED = re.compile(r"([0-9a-f]{16})-([a-z]{2})/(.+)")
_FOREVER = "private, max-age=31536000, immutable"


class PageFiles(StaticFiles):
    """Serves the files with and without a version; only what has one may be kept, since it never changes."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file. One of another version is not there: its neighbours would not fit it."""
        asked = _VERSIONED.fullmatch(path)
        if asked is None:
            return await super().get_response(path, scope)
        version, language, name = asked.groups()
        if version != page_version() or language not in WORDS:
            raise HTTPException(404)
        response = await super().get_response(WORDS[language] if name == WORDS["en"] else name, scope)
        response.headers["Cache-Control"] = _FOREVER
        return response


def language_of(request: Request, otherwise: str) -> str:
    """Return the language that somebody has chosen in this browser, else the one that the node offers first."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    return chosen if chosen in WORDS else otherwise


@cache
def page_version() -> str:
    """Return what changes with any file of the page. Files do not change while the node runs."""
    found = sha256()
    for path in sorted(PAGE.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(PAGE).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


@cache
def document(name: str, language: str) -> str:
    """Return an HTML file of the page in a language, with the addresses of this version.

    Its head links to each module that is needed at once; those that are needed later it names in `data-later`.
    """
    page = linked((PAGE / name).read_text(encoding="utf-8"), PAGE)
    later = " ".join(modules_later(page, PAGE))
    head = f'<html lang="{language}" data-languages="{" ".join(WORDS)}"' + (f' data-later="{later}"' if later else "")
    return page.replace('<html lang="en"', head, 1).replace(AT, f"{AT}{page_version()}-{language}/")
