"""A model that does to its process what the study's description asks for; other studies it measures as it should."""

from __future__ import annotations

import ctypes
import os
import time

from dicom_node.analysis.answer import Analysis
from dicom_node.inference.lungs.density import analyse as measure
from dicom_node.inference.model_run import ModelRun

_GIGABYTE = 1 << 30


def analyse(run: ModelRun) -> Analysis:
    """Crash, leave, eat or hang if the study says so."""
    asked = str(run.images[0].header.get("StudyDescription", ""))
    if asked == "codec crashes":
        ctypes.string_at(0)  # a read through a null pointer, as of a codec in C given a hostile stream
    if asked == "model exits":
        os._exit(0)
    if asked == "memory":
        held = bytearray(8 * _GIGABYTE)
        raise AssertionError(f"{len(held)} bytes could be had")
    while asked == "hangs":
        time.sleep(1)
    return measure(run)
