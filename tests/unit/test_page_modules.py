"""A browser is told of all modules of the page at once: it would find them one behind the other, a round trip each."""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.api.page_files import PAGE, WORDS, document, page_version
from dicom_node.api.page_modules import linked, modules_behind, modules_later

#: Of the description of the API, which has a page of its own; and words that stand for those of `strings.js`.
_ELSEWHERE = {"docs.js", *WORDS.values()} - {"strings.js"}


def test_every_module_of_the_page_is_named_once_and_none_of_another_page() -> None:
    there = {f"/page/{path.relative_to(PAGE).as_posix()}" for path in PAGE.rglob("*.js") if path.name not in _ELSEWHERE}
    at_once = modules_behind(PAGE / "app.js", PAGE)
    later = modules_later((PAGE / "index.html").read_text(encoding="utf-8"), PAGE)
    named = [*at_once, *later]
    assert set(named) == there - {"/page/app.js"}
    assert len(named) == len(set(named)) > 30


def test_the_list_does_not_wait_for_the_viewer_nor_for_what_administrators_see() -> None:
    at_once = modules_behind(PAGE / "app.js", PAGE)
    assert "/page/worklist.js" in at_once
    assert not [one for one in at_once if "viewer/" in one or one in ("/page/rules.js", "/page/people.js")]


def test_the_documents_name_every_file_of_theirs_by_its_version() -> None:
    for name in ("index.html", "docs.html"):
        written = document(name, "en")
        addresses = re.findall(r'"/page/([^"]+)"', written)
        assert addresses
        assert all(one.startswith(f"{page_version()}-en/") for one in addresses), name
    later = re.search(r'data-later="([^"]+)"', document("index.html", "en"))
    assert later is not None
    assert f"/page/{page_version()}-en/viewer/reading.js" in later[1].split()


def test_the_links_stand_in_the_head_before_the_script_that_would_look_for_them() -> None:
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    written = linked(page, PAGE)
    before = written[: written.index('<script type="module"')]
    assert "</head>" not in before
    assert re.findall(r'<link rel="modulepreload" href="([^"]+)">', before) == [*modules_behind(PAGE / "app.js", PAGE)]
    assert re.sub(r'  <link rel="modulepreload"[^\n]*\n', "", written) == page


def test_imports_are_followed_in_each_of_their_forms(tmp_path: Path) -> None:
    (tmp_path / "viewer").mkdir()
    texts = {
        "app.js": 'import { a } from "/page/a.js";\nimport * as b from "./viewer/b.js";\nimport "/page/c.js";\n',
        "a.js": 'import {\n  one,\n  two,\n} from "/page/c.js";\n// import { x } from "/page/not.js"\n',
        "viewer/b.js": 'export { d } from "../d.js";\nimport { a } from "/page/a.js";\n',
        "c.js": 'const text = "from nowhere";\n',
        "d.js": 'import { app } from "/page/app.js";\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert modules_behind(tmp_path / "app.js", tmp_path) == (
        "/page/a.js", "/page/viewer/b.js", "/page/c.js", "/page/d.js",
    )  # fmt: skip


def test_a_page_without_a_module_stays_as_it_is() -> None:
    assert linked("<html><head></head></html>", PAGE) == "<html><head></head></html>"
