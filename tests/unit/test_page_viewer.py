"""The viewer of the page: what it reckons, tried by Node.js, and what it says, held to what the node has."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_node.core.assessment.review import REVIEW_REASONS
from tests.support.needs import REPOSITORY, tool

_PAGE = REPOSITORY / "dicom_node" / "api" / "page"
_TESTS = Path(__file__).parent / "page"


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules where Node.js takes them for what they are in a browser."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(_PAGE / "viewer", folder / "viewer")
    shutil.copy(_PAGE / "strings.js", folder)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    return folder


def test_windows_masks_regions_and_reviews_are_reckoned_as_they_should_be(modules: Path) -> None:
    shutil.copy(_TESTS / "viewer.test.mjs", modules)
    command = [tool("node", "nodejs"), "--test", "viewer.test.mjs"]
    done = subprocess.run(command, cwd=modules, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-6000:]


def test_the_reasons_that_the_page_offers_are_those_of_a_review(modules: Path) -> None:
    script = "import { STRINGS } from './strings.js'; console.log(JSON.stringify(STRINGS.viewer.reasonOf))"
    command = [tool("node", "nodejs"), "--input-type=module", "--eval", script]
    said = subprocess.run(command, cwd=modules, capture_output=True, text=True, timeout=60, check=True).stdout
    assert json.loads(said) == {reason.value: text for reason, text in REVIEW_REASONS.items()}
