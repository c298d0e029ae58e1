"""Every bundle of the Model Zoo is told once: what came back, or why it does not run; and the reasons are still so."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable

import numpy as np
import pytest

from dicom_node.inference.cards.card import TASK_INPUTS
from tests.support.needs import REPOSITORY

PAGE = (REPOSITORY / "docs" / "explanation" / "public-studies.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| ([\w, ]+?) \| (.+) \|$", re.MULTILINE)
_HEAD = ("bundle", "folder")


def rows(heading: str) -> dict[tuple[str, ...], str]:
    """Return the rows of the table behind a heading, by the bundles that each names."""
    _, found, text = PAGE.partition(heading)
    assert found
    table = text[: text.index("\n\n", text.index("|---|"))]
    return {tuple(names.split(", ")): told for names, told in _ROW.findall(table) if names not in _HEAD}


RUNNING = rows("## Bundles of the MONAI Model Zoo that were tried")
NOT_RUNNING = rows("These do not run, for these reasons:")


def torchvision_stays_out() -> bool:
    constrained = "torchvision<0" in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    return constrained and importlib.util.find_spec("torchvision") is None


def no_task(*words: str) -> Callable[[], bool]:
    return lambda: not any(word in task for task in TASK_INPUTS for word in words)


#: What a reason speaks of, and whether it is so. A task that comes makes its reason untrue.
HOLDS: dict[str, Callable[[], bool]] = {
    "torchvision": torchvision_stays_out,
    "outlined nuclei beside the picture": no_task("nuclei"),
    "clicks or prompts": no_task("click", "prompt", "interactive"),
    "ten points in each frame": lambda: no_task("point", "landmark")() and not hasattr(np, "product"),
    "registers two images": no_task("registration"),
    "make images instead of reading them": no_task("generat", "synthesis"),
}


def test_every_bundle_is_told_once() -> None:
    running = [name for names in RUNNING for name in names]
    not_running = [name for names in NOT_RUNNING for name in names]

    assert (len(running), len(not_running)) == (19, 12)
    assert len({*running, *not_running}) == 31
    assert "19 run;" in PAGE
    assert "All 31 folders" in PAGE


@pytest.mark.parametrize("names", NOT_RUNNING, ids="-".join)
def test_the_reason_why_a_bundle_does_not_run_is_still_so(names: tuple[str, ...]) -> None:
    told = NOT_RUNNING[names]
    spoken_of = [words for words in HOLDS if words in told]

    assert spoken_of, f"{told!r} says nothing that is looked at here"
    assert all(HOLDS[words]() for words in spoken_of)
