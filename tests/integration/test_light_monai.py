"""A worker whose model is made with MONAI loads nothing for it that no model needs, though it may be installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("monai")

_PROGRAM = """
import sys
import dicom_node.inference.runtimes.monai_bundle.model
assert "monai" in sys.modules and "transformers" not in sys.modules, "MONAI took transformers in"
assert "rfc3987_syntax" not in sys.modules, "MONAI had a grammar of addresses built"
from transformers import ViTConfig
"""


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs the extra huggingface")
def test_a_worker_that_loads_monai_leaves_transformers_out_and_finds_it_when_it_is_wanted() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
