"""The documentation as a site: it builds without a warning, and what is written from the code is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.needs import REPOSITORY
from tools.generated_docs import DOCS, pages

SITE = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-c", "docs", "."]


def test_what_is_written_from_the_code_is_up_to_date() -> None:
    stale = [path.name for path, expected in pages() if path.read_text(encoding="utf-8") != expected]

    assert stale == [], "run: .venv/bin/python -m tools.generated_docs"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run([*SITE, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert (built.returncode, built.stderr) == (0, "")
    assert {path.stem for path in DOCS.rglob("*.md")} <= {path.stem for path in tmp_path.rglob("*.html")}


def test_a_link_to_a_heading_that_is_not_there_is_no_site(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Index\n\n[there](#nowhere)\n", encoding="utf-8")
    (tmp_path / "docs" / "conf.py").write_bytes((DOCS / "conf.py").read_bytes())
    built = subprocess.run([*SITE, "built"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert built.returncode != 0
    assert "nowhere" in built.stderr
