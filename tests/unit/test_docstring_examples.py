"""The examples in docstrings of entry points show what the code does."""

from __future__ import annotations

import doctest
import sys

import pytest

from dicom_node.deliver.viewer_links import viewer_link
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.hl7.grammar import escape, number, timestamp
from dicom_node.fhir.hl7.message import build_message
from dicom_node.fhir.hl7.patient import universal_id
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.prediction import LoadedModel
from dicom_node.sr_writer.write import write_result
from tests.support.results import analysis_examples as examples

SHOWN = [
    ModelRun, LoadedModel, write_result, build_bundle, viewer_link, build_message, escape, timestamp, number,
    universal_id,
]  # fmt: skip


@pytest.mark.parametrize("shown", SHOWN, ids=lambda one: one.__name__)
def test_the_example_of_a_docstring_is_what_happens(shown: object) -> None:
    names = vars(sys.modules[shown.__module__])
    given = {"answer": examples.radiograph_analysis(), "context": examples.context()}
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(shown, globs=names | given)

    told: list[str] = []
    done = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)

    assert done.attempted > 1
    assert done.failed == 0, "".join(told)
