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

#: Where the files of the page lie.
AT = "/page/"
_SCRIPT = re.compile(rf'^ *<script type="module" src="{AT}([\w/.-]+)"></script>\n', re.MULTILINE)
#: `import "…"`, and `import` or `export` of names `from "…"`; these stand at the beginning of a line.
_IMPORTED = re.compile(r'^(?:import\s*|(?:import|export)\b[^"\';]*?\bfrom\s*)"([^"\n]+\.js)"', re.MULTILINE)
#: `import("…")`: needed when something happens, not before.
_LATER = re.compile(r'\bimport\("([^"\n]+\.js)"\)')


def linked(page: str, folder: Path) -> str:
    """Return a page with a link to each module behind its script, before that; `folder` has the files of `/page`."""
    script = _SCRIPT.search(page)
    if script is None:
        return page
    links = (f'  <link rel="modulepreload" href="{one}">\n' for one in modules_behind(folder / script[1], folder))
    return page[: script.start()] + "".join(links) + page[script.start() :]


def modules_later(page: str, folder: Path) -> tuple[str, ...]:
    """Return the addresses of what the script of a page imports only when it is needed, and what that imports."""
    script = _SCRIPT.search(page)
    if script is None:
        return ()
    first = AT + script[1]
    at_once = [first, *modules_behind(folder / script[1], folder)]
    text = (folder / script[1]).read_text(encoding="utf-8")
    asked = [normpath(join(first, "..", name)) for name in _LATER.findall(text)]
    found = [one for name in asked for one in (name, *modules_behind(folder / name.removeprefix(AT), folder))]
    return tuple(one for one in dict.fromkeys(found) if one not in at_once)


@cache
def modules_behind(script: Path, folder: Path) -> tuple[str, ...]:
    """Return the addresses of what a script imports, and what that imports, in the order in which it would be found.

    Files do not change while the node runs.
    """
    first = AT + script.relative_to(folder).as_posix()
    found = [first]
    for address in found:  # grows meanwhile
        found += dict.fromkeys(one for one in _imported(address, folder) if one not in found)
    return tuple(found[1:])


def _imported(address: str, folder: Path) -> Iterator[str]:
    text = (folder / address.removeprefix(AT)).read_text(encoding="utf-8")
    for name in _IMPORTED.findall(text):
        yield normpath(join(address, "..", name))
