"""What is kept of an analysis to see drift: a few numbers and words by name, nothing of the patient. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

Features = Mapping[str, float | str]

#: Words that tell which scanner made the images, and are no features themselves.
STATION, MODEL_NAME = "scanner.station", "scanner.model"
#: How an analysis ended: DONE, PARTIAL, or why it was refused.
OUTCOME = "outcome"
#: How far the images are from those that the model knows; above 1 its scores are not calibrated.
LOOKS_DISTANCE = "looks.distance"
#: Begins the names of what a model said: the rest are inputs.
OUTPUTS = (OUTCOME, "score.", "measure.", "presence.")

_MOST, _LONGEST_NAME, _LONGEST_WORD, _LARGEST = 64, 96, 64, 1e12


def score_of(finding_key: str) -> str:
    """Return the name of the feature that holds a finding's score."""
    return f"score.{finding_key}"


def is_output(feature: str) -> bool:
    """Tell whether a feature is what the model said, and not what it was given."""
    return feature.startswith(OUTPUTS)


def sound_features(said: object) -> dict[str, float | str]:
    """Return what can be kept of the features that a worker process told: a model's own code may have changed them."""
    found: dict[str, float | str] = {}
    for name, value in said.items() if isinstance(said, Mapping) else ():
        if len(found) >= _MOST or not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            continue
        if isinstance(value, str):
            found[name] = "".join(one for one in value if one.isprintable()).strip()[:_LONGEST_WORD]
        elif isinstance(value, int | float) and abs(value) <= _LARGEST and math.isfinite(value):
            found[name] = float(f"{value:.6g}")  # the same whether it is compared now or was kept in a reference
    return found
