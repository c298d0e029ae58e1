"""The card excerpts of docs/reference/runtimes.md, "Runtimes beside MONAI bundles": each is a card the node reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom_node.inference.cards.card import load_card
from dicom_node.inference.runtimes.table import RUNTIMES
from tests.support.models.model_folders import CLASSES
from tests.support.needs import REPOSITORY

_RUNTIMES = (REPOSITORY / "docs" / "reference" / "runtimes.md").read_text(encoding="utf-8")
_PAGE = _RUNTIMES.split("## Runtimes beside MONAI bundles")[1].split("\n## ")[0]
_EXCERPTS = re.findall(r"```toml model_card.toml\n(.*?)```", _PAGE, re.DOTALL)
_TOP = """
name = "example"
version = "1"
manufacturer = "Test"
intended_use = "Tests."
limits = "None."
calibrated = false
"""


@pytest.mark.parametrize("excerpt", _EXCERPTS, ids=lambda text: text.partition("\n")[0])
def test_a_card_with_this_excerpt_is_read(excerpt: str, tmp_path: Path) -> None:
    (tmp_path / "model_card.toml").write_text(_TOP + excerpt + CLASSES, encoding="utf-8")

    card = load_card(tmp_path)

    assert (card.preprocessing is not None) == ("[preprocessing]" in excerpt)
    assert (card.server is not None) == ("[server]" in excerpt)


def test_every_runtime_has_its_row() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", _PAGE, re.MULTILINE)) == {"runtime"} | set(RUNTIMES)
    assert len(_EXCERPTS) == 4
