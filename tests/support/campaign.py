"""How much of a long proof this run makes: all of it in a campaign (`make campaign`), a sample in any other run."""

from __future__ import annotations

import os
from typing import TypeVar

Amount = TypeVar("Amount")

#: Whether this run is the campaign, whose tests are those marked `campaign`.
IS_CAMPAIGN = os.environ.get("CAMPAIGN", "") not in {"", "0"}


def amount(sample: Amount, *, campaign: Amount) -> Amount:
    """Return how much of a proof to make in this run: rounds, seconds, examples, sizes or a list of cases."""
    return campaign if IS_CAMPAIGN else sample
