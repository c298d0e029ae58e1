"""Model folders made by tests: a card, and weights with their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dicom_node.inference.cards.card import ModelCard, load_card

CLASSES = """
[[finding]]
key = "first"
label = "First"
output_index = 0
code = { value = "260385009", scheme = "SCT", meaning = "Negative" }
site = { value = "39607008", scheme = "SCT", meaning = "Lung" }

[[finding]]
key = "second"
label = "Second"
output_index = 1
code = { value = "10828004", scheme = "SCT", meaning = "Positive" }
site = { value = "39607008", scheme = "SCT", meaning = "Lung" }
"""


def write_card(folder: Path, runtime: str, *, task: str = "classification", top: str = "", more: str = CLASSES) -> Path:
    """Write a card with everything that must be there; `top` goes before the first table, `more` after it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"""
name = "{folder.name}"
version = "1.0"
manufacturer = "Test"
runtime = "{runtime}"
task = "{task}"
intended_use = "Tests of the node."
limits = "Untrained."
calibrated = false
{top}
{more}
"""
    (folder / "model_card.toml").write_text(text, encoding="utf-8")
    return folder


def weights_table(path: Path) -> str:
    """Return `[weights]` for a file at the top of the model folder."""
    return f'\n[weights]\nfile = "{path.name}"\nsha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n'


def card_of(
    folder: Path, runtime: str, weights: Path, more: str, *, task: str = "classification", top: str = ""
) -> ModelCard:
    """Write and load the card of a model with weights."""
    return load_card(write_card(folder, runtime, task=task, top=top, more=weights_table(weights) + more + CLASSES))
