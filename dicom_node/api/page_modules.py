"""Which modules a page needs, told in its head: `modulepreload` lets a browser ask for all of them at once.

Without it a browser learns of a module only when it has read the one that imports it: the page's lie up to five deep,
and each step costs a round trip. What is told is read from the files themselves, so that no list goes out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from posixpath import join, normpath

_AT = "/page/"
_SCRIPT = re.compile(rf'^ *<script type="module" src="{_AT}([\w/.-]+)"></script>\n', re.MULTILINE)
#: `import "…"`, and `import` or `export` of names `from "…"`; these stand at the beginning of a line.
_IMPORTED = re.compile(r'^(?:import\s*|(?:import|export)\b[^"\';]*?\bfrom\s*)"([^"\n]+\.js)"', re.MULTILINE)


def linked(page: str, folder: Path) -> str:
    """Return a page with a link to each module behind its script, before that; `folder` has the files of `/page`."""
    script = _SCRIPT.search(page)
    if script is None:
        return page
    links = (f'  <link rel="modulepreload" href="{one}">\n' for one in modules_behind(folder / script[1], folder))
    return page[: script.start()] + "".join(links) + page[script.start() :]


@cache
def modules_behind(script: Path, folder: Path) -> tuple[str, ...]:
    """Return the addresses of what a script imports, and what that imports, in the order in which it would be found.

    Files do not change while the node runs.
    """
    first = _AT + script.relative_to(folder).as_posix()
    found = [first]
    for address in found:  # grows meanwhile
        found += dict.fromkeys(one for one in _imported(address, folder) if one not in found)
    return tuple(found[1:])


def _imported(address: str, folder: Path) -> Iterator[str]:
    text = (folder / address.removeprefix(_AT)).read_text(encoding="utf-8")
    for name in _IMPORTED.findall(text):
        yield normpath(join(address, "..", name))
