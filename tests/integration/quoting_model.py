"""A model that says the patient's name wherever it can: in errors, prints, log lines and warnings."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings

from dicom_node.analysis import Analysis, Finding, Measurement, codes
from dicom_node.inference.model_run import ModelRun


def analyse(run: ModelRun) -> Analysis:
    """Do what the last word of the study's description asks for."""
    header = run.images[0].header
    who = " ".join(str(element.value) for element in header if element.VR != "UI")
    match str(header.StudyDescription).split()[-1]:
        case "raises":
            raise ValueError(f"no reference values for {who}")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "prints":
            _say(who)
    sources = tuple(image.read() for image in run.images)
    mean = round(float(sum(one.pixel_array.mean() for one in sources)) / len(sources), 1)
    measured = Measurement(codes.ATTENUATION_COEFFICIENT, mean, codes.HOUNSFIELD_UNIT, codes.MEAN)
    finding = Finding(key="chest", label="Chest", code=codes.LUNG, site=codes.LUNG, measurements=(measured,))
    return Analysis(model=run.identity, sources=sources, findings=(finding,))


def _say(who: str) -> None:
    print(who)
    print(who, file=sys.stderr)
    logging.getLogger("quoting").error("analysing %s", who)
    warnings.warn(who, stacklevel=1)
    try:
        raise KeyError(who)
    except KeyError:
        logging.getLogger("quoting").exception(who)
