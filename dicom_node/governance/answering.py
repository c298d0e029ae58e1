"""Inside the worker process: one model, one study, the answer as JSON-ready data; no report is written.

Golden studies and evaluations run here, by the runner of every other job.
"""

from __future__ import annotations

from collections.abc import Mapping

from dicom_node.governance.question import Question
from dicom_node.inference.runner import run_model
from dicom_node.logs import quiet_third_parties
from dicom_node.summary import summarise


def answer(question: Question) -> Mapping[str, object]:
    """Run the model; raises what the runner raises."""
    quiet_third_parties()
    return summarise(run_model(question.request, question.place))
