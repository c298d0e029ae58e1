"""Only `index/transitions` writes a state: the source of every other module of the product is searched for one."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from dicom_node.index.tables import metadata
from tests.support.needs import REPOSITORY
from tests.support.source_code import PRODUCT, modules_of, nodes_of, source_of

#: The place itself, and the steps of the schema's past, which must go on saying what they said.
WRITERS = (Path("dicom_node/index/transitions"), Path("dicom_node/index/migrations"))
TABLES = [table.name for table in metadata.sorted_tables if "state" in table.c]
#: What SQLAlchemy makes a writing statement with.
STATEMENTS = {"insert", "update", "insert_of"}
RAW_SQL = re.compile(rf"\b(update|insert\s+into)\s+({'|'.join(TABLES)})\b", re.IGNORECASE)


def written_states(nodes: Collection[ast.AST]) -> list[int]:
    """Return the lines on which a module gives a column `state` a value.

    That is: `.values(state=…)`; a mapping with the key `state` in a module that makes writing statements, except what
    is logged (`extra=`); and SQL in words.
    """
    logged = {id(one) for node in nodes for one in _logged(node)}
    writes = any(_makes_statement(node) for node in nodes)
    return sorted(
        {
            node.lineno
            for node in nodes
            if isinstance(node, ast.expr | ast.stmt)
            and (_gives_values(node) or _is_raw_sql(node) or (writes and id(node) not in logged and _is_mapping(node)))
        }
    )


def _logged(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.keyword) and node.arg == "extra":
        yield from ast.walk(node.value)


def _makes_statement(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(one.name in STATEMENTS for one in node.names)
    return isinstance(node, ast.Attribute) and node.attr in STATEMENTS and _is_table(node.value)


def _is_table(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in TABLES or name == "sqlalchemy"


def _gives_values(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if node.func.attr not in ("values", "ordered_values"):
        return False
    inside = [one for argument in node.args for one in ast.walk(argument)]
    return any(one.arg == "state" for one in node.keywords) or any(_is_mapping(one) or _is_pair(one) for one in inside)


def _is_mapping(node: ast.AST) -> bool:
    if isinstance(node, ast.Dict):
        return any(_is_state(key) for key in node.keys)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return any(one.arg == "state" for one in node.keywords)
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(one, ast.Subscript) and _is_state(one.slice) for one in targets)


def _is_pair(node: ast.AST) -> bool:
    return isinstance(node, ast.Tuple) and bool(node.elts) and _is_state(node.elts[0])


def _is_state(key: ast.expr | None) -> bool:
    if isinstance(key, ast.Constant):
        return key.value == "state"
    return isinstance(key, ast.Attribute) and key.attr == "state"


def _is_raw_sql(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(RAW_SQL.search(node.value))


def product_modules() -> Iterator[Path]:
    for path in modules_of(*PRODUCT):
        if not any(path.relative_to(REPOSITORY).is_relative_to(one) for one in WRITERS):
            yield path


def test_nothing_but_transitions_writes_a_state() -> None:
    modules = list(product_modules())
    assert len(modules) > 300, "the product was not found"
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in modules
        if "state" in source_of(path)
        for line in written_states(nodes_of(path))
    ]
    assert found == [], "write it through index/transitions, which asks lifecycle"


def test_the_search_knows_every_table_with_states() -> None:
    assert sorted(TABLES) == [
        "artifacts", "commitments", "deletions", "deliveries", "destinations", "jobs", "notifications", "results",
        "reviews", "studies",
    ]  # fmt: skip


def test_the_search_finds_what_transitions_writes() -> None:
    found = {path.stem: len(written_states(nodes_of(path))) for path in (REPOSITORY / WRITERS[0]).glob("*.py")}

    assert sum(found.values()) >= 19
    assert {module for module, writes in found.items() if not writes} == {"__init__"}


@pytest.mark.parametrize(
    "line",
    [
        "update(jobs).values(state='DONE')",
        "update(jobs).values({'state': 'DONE'})",
        "update(jobs).values({jobs.c.state: 'DONE'})",
        "update(jobs).ordered_values((jobs.c.state, 'DONE'))",
        "jobs.update().values(attempts=1, state='DONE')",
        "values = {'reason': '', 'state': 'DONE'}",
        "values |= {'state': 'DONE'}",
        "values['state'] = 'DONE'",
        "values = dict(state='DONE')",
        "connection.execute(update(jobs), [{'id': 1, 'state': 'DONE'}])",
        "connection.execute(text('UPDATE jobs SET state = 1'))",
        "connection.exec_driver_sql('insert into deliveries (state) values (1)')",
    ],
)
def test_a_state_that_is_written_by_hand_is_found(line: str) -> None:
    module = f"from sqlalchemy import insert, text, update\n\n\ndef write(connection, values):\n    {line}\n"
    assert written_states([*ast.walk(ast.parse(module))]) == [5]


@pytest.mark.parametrize(
    "line",
    [
        "return select(jobs).where(jobs.c.state == 'DONE')",
        "_log.info('job ended', extra={'state': 'DONE'})",
        "connection.execute(update(jobs).where(jobs.c.state == 'DONE').values(attempts=0))",
    ],
)
def test_a_state_that_is_only_read_or_logged_is_no_finding(line: str) -> None:
    assert written_states(f"from sqlalchemy import select, update\n\n\ndef read(connection):\n    {line}\n") == []


@pytest.mark.parametrize(
    "module", ["jobs/runner.py", "jobs/sweeps.py", "deliver/dispatch/outbox.py", "deliver/dispatch/batch.py"]
)
def test_what_claims_work_and_puts_it_off_goes_by_the_clock_of_the_database(module: str) -> None:
    """Of two hosts on one database, one with a wrong clock must not take the other's work nor hold its own for ever."""
    assert not [node for node in nodes_of(REPOSITORY / "dicom_node" / module) if _reads_the_host_clock(node)]


def _reads_the_host_clock(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
        return False
    return (node.value.id, node.attr) in {("datetime", "now"), ("datetime", "utcnow"), ("time", "time")}
