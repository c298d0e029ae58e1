"""The table of runtimes: every row is a module that loads, every module that loads is a row, and what it says holds."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import SHIPPED_MODELS, TASK_INPUTS, load_card
from dicom_node.inference.cards.own_code import PACKAGE
from dicom_node.inference.cards.schema import KEYS
from dicom_node.inference.runtimes.table import RUNTIMES, Runtime
from dicom_node.inference.runtimes.tensors import METHODS, check_card
from tests.support.needs import REPOSITORY

_EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def loading_modules() -> Iterator[str]:
    for path in (PACKAGE / "inference" / "runtimes").rglob("*.py"):
        if any(isinstance(node, ast.FunctionDef) and node.name == "load" for node in _top_of(path)):
            yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def _top_of(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body


def test_every_module_that_loads_models_is_one_runtime() -> None:
    assert sorted(one.module for one in RUNTIMES.values()) == sorted(loading_modules())


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=lambda one: one.name)
def test_a_runtime_names_tasks_methods_and_extras_that_exist(runtime: Runtime) -> None:
    assert set(runtime.tasks) <= TASK_INPUTS.keys()
    assert set(runtime.explains) <= METHODS.keys()
    assert not runtime.extra or runtime.extra in _EXTRAS


@pytest.mark.parametrize(("runtime", "task"), [("onnx", "detection"), ("torchxrayvision", "segmentation")])
def test_a_task_that_a_runtime_does_not_serve_is_refused_by_name(runtime: str, task: str) -> None:
    card = replace(load_card(SHIPPED_MODELS / "cxr-pneumonia"), runtime=runtime, task=task)
    with pytest.raises(ModelUnavailable, match=f"runtime {runtime} answers classification.*, not {task}"):
        check_card(card)


def test_a_key_of_the_card_is_told_once() -> None:
    assert len({key.path for key in KEYS}) == len(KEYS)
