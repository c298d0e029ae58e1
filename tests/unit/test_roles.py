"""The table of roles: what is in it can be loaded by name, and receiving comes first."""

from __future__ import annotations

from importlib import import_module

import pytest

from dicom_node.cli.parser import make_parser
from dicom_node.roles import ROLES
from dicom_node.roles.role import Role


@pytest.mark.parametrize("name", ROLES)
def test_every_line_of_the_table_names_a_role(name: str) -> None:
    module, kind = ROLES[name].split(":")
    assert issubclass(getattr(import_module(module), kind), Role)


def test_receiving_starts_first_and_stops_first() -> None:
    assert next(iter(ROLES)) == "receive"


@pytest.mark.parametrize("name", ROLES)
def test_the_command_line_takes_every_role(name: str) -> None:
    assert make_parser().parse_args(["serve", "--role", name]).role == [name]
