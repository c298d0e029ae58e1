"""The documentation says what the code does: settings, commands, links, and the parts written from the code."""

from __future__ import annotations

import argparse
import configparser
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from dicom_node.cli.parser import make_parser
from dicom_node.roles.settings import SiteSettings, load_settings
from tests.support.needs import REPOSITORY
from tools.generated_docs import DOCS

MARKDOWN = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), *(REPOSITORY / "orthanc").glob("*.md")])
DEPLOY = REPOSITORY / "deploy"
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")
_TOML = re.compile(r"```toml\n(.*?)```", re.DOTALL)
_SECTION = re.compile(r"^### `\[+(\w+)\]+`(?: of kind `(\w+)`)?.*?$(.*?)(?=^### |^<!-- end)", re.DOTALL | re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def settings_in_code() -> set[str]:
    found = set()
    for section, field in SiteSettings.model_fields.items():
        for model in sections_in(field.annotation):
            kind = get_args(model.model_fields["kind"].annotation)[0] if "kind" in model.model_fields else ""
            found |= {f"{section}{kind and f' {kind}'}.{key}" for key in model.model_fields}
    return found


def sections_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """A section; or of a list the section it is made of, or one for each kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(one for part in get_args(annotation) for one in sections_in(part))


def commands(parser: argparse.ArgumentParser, before: str = "dicom-node") -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                deeper = list(commands(below, f"{before} {word}"))
                yield from deeper or [f"{before} {word}"]


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    page = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")

    documented = {
        f"{section}{kind and f' {kind}'}.{key}"
        for section, kind, body in _SECTION.findall(page)
        for key in _ROW.findall(body)
    }

    assert documented == settings_in_code()


def test_every_command_is_documented() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in MARKDOWN)

    assert [command for command in commands(make_parser()) if command not in text] == []


@pytest.mark.parametrize("path", MARKDOWN, ids=name)
def test_a_link_leads_somewhere(path: Path) -> None:
    targets = _LINK.findall(path.read_text(encoding="utf-8"))

    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", [path for path in MARKDOWN if "```toml" in path.read_text(encoding="utf-8")], ids=name)
def test_an_example_configuration_is_accepted(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "ehr.key"
    key.touch(0o600)
    (tmp_path / "oidc-secret").write_text("s3cret", encoding="utf-8")
    (tmp_path / "mail-password").write_text("s3cret", encoding="utf-8")
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "api.key").touch(0o600)
    (tmp_path / "webhook-secret").write_text(f"whsec_{'A' * 32}\n", encoding="utf-8")
    for example in _TOML.findall(path.read_text(encoding="utf-8")):
        # The reader's own tokens and keys.
        values = tomllib.loads(re.sub(r"/etc/dicom-node/(ehr|ris)\.key", str(key), example.replace("…", "t0ken")))
        # Examples show the part they speak of: a listener beyond loopback needs peers, a route its destinations.
        if "dicom" in values:
            values.setdefault("peer", [{"ae_title": "CT1"}])
        SiteSettings.model_validate(values)


def test_the_unit_may_write_where_its_example_of_settings_and_those_of_the_readme_keep_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "systemd" / "dicom-node.service", encoding="utf-8")
    service = unit["Service"]
    program, *arguments = service["ExecStart"].split()
    (file,) = (tmp_path / one.lstrip("/") for one in arguments if one.endswith(".toml"))
    writable = tmp_path / "var/lib" / service["StateDirectory"]
    for folder in (file.parent, writable):
        folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / service["WorkingDirectory"].lstrip("/"))

    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for example in ("", _TOML.findall(readme)[0], (DEPLOY / "node.toml").read_text(encoding="utf-8")):
        file.write_text(example.replace("/var/lib", f"{tmp_path}/var/lib"), encoding="utf-8")
        data_dir = load_settings(file, {}).node.data_dir.resolve()
        assert data_dir.is_relative_to(writable)
    assert "data_dir" in example

    assert Path(program).name == "dicom-node"
    assert make_parser().parse_args(arguments).config.name == "node.toml"


def test_every_module_of_the_node_is_on_the_map() -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (REPOSITORY / "dicom_node").iterdir() if path.suffix == ".py" or path.is_dir()}

    assert {module for module in modules if not module.startswith("__") and f"`{module}" not in page} == set()


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        inline or listed
        for path in MARKDOWN
        for inline, listed in re.findall(
            r"(?:`|&& )make ([a-z]+)|^make ([a-z]+) +#", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }

    assert named <= targets
