"""The way of one study in docs/explanation/architecture.md leads through the code as it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.needs import REPOSITORY
from tools.generated_docs import DOCS

_ROW = re.compile(r"^\| (\d+) \| `([\w/]+\.py)` \|(.*?)\| ", re.MULTILINE)
_REACHED = re.compile(r"(?:\d+ )?(?P<how>imports|starts|reads|shares|calls it by)(?: `(?P<by>[\w/.-]+)`)?(?P<after>.*)")
#: Folders at the top that are packages of `dicom_node` (docs/decisions/0001).
_LINKED = ("fhir", "inference", "sr_writer", "config")


@dataclass(frozen=True, slots=True)
class Step:
    """A row: its file, the file it is reached from, how, and through which third one."""

    file: str
    source: str
    how: str
    by: str


def rows() -> list[tuple[str, str, str]]:
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    return _ROW.findall(page)


def steps() -> Iterator[Step]:
    files = {number: file for number, file, _ in rows()}
    for number, file, reached in rows()[1:]:
        found = _REACHED.fullmatch(reached.strip())
        assert found is not None, f"row {number} does not say how it is reached: {reached}"
        earlier = re.findall(r"\d+", re.sub(r"`.*?`", "", reached))
        assert len(earlier) == 1, f"row {number} is reached from one row"
        assert int(earlier[0]) < int(number), f"row {number} is reached from a row below it"
        yield Step(file, files[earlier[0]], found["how"], found["by"] or "")


def module_name(file: str) -> str:
    dotted = file.removesuffix(".py").replace("/", ".")
    return f"dicom_node.{dotted}" if file.split("/", maxsplit=1)[0] in _LINKED else dotted


@cache
def imported(file: str) -> frozenset[str]:
    """Return the modules that a file imports anywhere, those included that its packages pass on."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    for package in [name for name in found if name.startswith("dicom_node.")]:
        init = Path(package.replace(".", "/"), "__init__.py")
        if str(init) != file and (REPOSITORY / init).is_file():
            found |= imported(str(init))
    return frozenset(found)


def text(file: str) -> str:
    return (REPOSITORY / file).read_text(encoding="utf-8")


def holds(step: Step) -> bool:
    target = module_name(step.file)
    match step.how:
        case "imports":
            return target in imported(step.source)
        case "starts":
            return f'"{target}' in text(step.source)
        case "reads":
            return module_name(step.source) in imported(step.file)
        case "shares":
            return {module_name(step.by)} <= imported(step.source) & imported(step.file)
        case "calls it by":
            return f'"{target}:' in text(step.by) and "entry_point" in text(step.source)
    raise AssertionError(step.how)


def test_the_way_takes_at_most_40_files_in_order() -> None:
    numbers = [int(number) for number, _, _ in rows()]

    assert numbers == list(range(1, len(numbers) + 1))
    assert 30 <= len(numbers) <= 40
    assert len({file for _, file, _ in rows()}) == len(numbers)


@pytest.mark.parametrize("file", [file for _, file, _ in rows()])
def test_a_file_on_the_way_exists(file: str) -> None:
    assert (REPOSITORY / file).is_file()


def test_every_module_that_the_page_names_beside_the_way_exists() -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", (DOCS / "explanation" / "architecture.md").read_text("utf-8")))

    assert len(named) > 45
    gone = {one for one in named if not any((root / one).is_file() for root in (REPOSITORY, REPOSITORY / "dicom_node"))}
    assert gone == set()


@pytest.mark.parametrize("step", list(steps()), ids=lambda step: step.file)
def test_a_file_is_reached_as_the_page_says(step: Step) -> None:
    assert holds(step), f"{step.source} {step.how} {step.by} {step.file}"


def test_a_way_that_is_not_there_is_noticed() -> None:
    assert not holds(Step("dicom_node/deliver/dispatch/outbox.py", "dicom_node/pipeline.py", "imports", ""))
    assert not holds(Step("dicom_node/pipeline.py", "dicom_node/receive/process.py", "starts", ""))
