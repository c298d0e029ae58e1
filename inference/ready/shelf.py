"""The cards that come with the node for models of which it has no weights. Standard library only."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from dicom_node.inference.ready.torchxrayvision_sets import OPERATING_POINTS_OF, trained_outputs

_CARDS = Path(__file__).resolve().parent / "cards"
#: Begins the name of a card of TorchXRayVision; the name of its set follows.
TORCHXRAYVISION = "torchxrayvision-"
_EVERY_FINDING = f"{TORCHXRAYVISION}all"
_FINDING = "\n[[finding]]\n"


@cache
def ready_cards() -> Mapping[str, str]:
    """Return the text of each card by its name; none names the digest of its weights."""
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_CARDS.glob("*.toml"))}
    found |= dict(_of_other_sets(found[_EVERY_FINDING]))
    return MappingProxyType(dict(sorted(found.items())))


def name_for_bundle(bundle: str) -> str:
    """Return the name of the card written for the MONAI Bundle whose metadata have this `name`; "" where none is."""
    texts = ready_cards().items() if bundle else ()
    return next((name for name, text in texts if tomllib.loads(text).get("bundle") == bundle), "")


def set_of(card_name: str) -> str:
    """Return the published set of weights that a card of TorchXRayVision is for."""
    return card_name.removeprefix(TORCHXRAYVISION).replace("-", "_")


def _of_other_sets(every_finding: str) -> Iterator[tuple[str, str]]:
    """Make the cards of the sets that were trained for some of the findings only."""
    top, *findings = every_finding.split(_FINDING)
    for set_name in OPERATING_POINTS_OF:
        name = f"{TORCHXRAYVISION}{set_name}".replace("_", "-")
        if name != _EVERY_FINDING:
            known = [findings[place] for place in sorted(trained_outputs(set_name))]
            yield name, re.sub(r'(?m)^name = ".*"$', f'name = "{name}"', _FINDING.join([top, *known]))
