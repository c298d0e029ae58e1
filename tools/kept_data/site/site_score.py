"""The hospital's own model in a kept data folder: it says the same of every image, fails, or takes its time.

Written as the documentation of version 0.1.0 tells it (docs/models.md, "A Python function").
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from dicom_node.inference.prediction import ModelInput, Prediction

_ROWS_THAT_FAIL, _ROWS_THAT_TAKE_LONG = 40, 48


def predict(inputs: Sequence[ModelInput], card: object, device: str) -> list[Prediction]:  # noqa: ARG001
    """Say 0.75. What an image does instead stands in its height, since a model is shown nothing of the header."""
    for one in inputs:
        rows = one.values.shape[-2]
        if rows == _ROWS_THAT_FAIL:
            raise ArithmeticError("as it should")
        while rows == _ROWS_THAT_TAKE_LONG and "KEPT_MODEL_WAITS" in os.environ:
            time.sleep(0.1)
    return [Prediction(scores=np.array([0.75], np.float32)) for _ in inputs]
