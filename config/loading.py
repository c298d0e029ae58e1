"""Read settings: the defaults, one TOML file over them, and the environment over both.

Any single key can be set by environment: ``DICOM_NODE__DICOM__PORT=11113`` overrides ``[dicom] port``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dicom_node.config.problems import Places, problems_in
from dicom_node.config.section import Origin, Variable, keys_of
from dicom_node.config.toml_lines import KeyPath, line_numbers
from dicom_node.core.errors import SettingsError

ENVIRONMENT_PREFIX = "DICOM_NODE__"

S = TypeVar("S", bound=BaseModel)


def load(model: type[S], path: Path | None, environment: Mapping[str, str] | None) -> S:
    """Read `default.toml` of this package, then `path`, then the environment, and validate it all as `model`.

    A list (`[[route]]`, `[[destination]]`, `[[peer]]`) in `path` replaces the default list. Raises `SettingsError`
    that names everything that is wrong, each with the file's line or the variable.
    """
    variables = _variables(os.environ if environment is None else environment)
    text = "" if path is None else _text_of(path)
    values = tomllib.loads(_text_of(Path(__file__).with_name("default.toml")))
    values = _merged(_merged(values, _parsed(text, path)), _nested(variables))
    names = {key: f"{ENVIRONMENT_PREFIX}{'__'.join(map(str, key)).upper()}" for key in variables}
    places = Places(path, line_numbers(text), names)
    remarks = list(_unread(model, os.environ if environment is None else environment))
    origin = Origin((path or Path("settings")).resolve().parent, remarks, places.of)
    try:
        return model.model_validate(values, context=origin)
    except ValidationError as error:
        problems = "\n  ".join(problems_in(error, model, places))
        raise SettingsError(f"The settings cannot be used:\n  {problems}") from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
    except OSError as error:
        raise SettingsError(f"Configuration {path} cannot be read: {error.strerror}. Check --config.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"Configuration {path} is not UTF-8 text. Save it as UTF-8.") from error


def _parsed(text: str, path: Path | None) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise _not_toml(path, line, str(error)) from error
    except RecursionError as error:
        raise _not_toml(path, 1, "it is nested too deeply") from error


def _not_toml(path: Path | None, line: int, why: str) -> SettingsError:
    return SettingsError(f"The settings cannot be used:\n  {path}:{line}: this is not valid TOML: {why}")


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: tables key by key, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result


def _variables(environment: Mapping[str, str]) -> Mapping[KeyPath, Variable]:
    """Return what the environment sets, by section and key."""
    prefixed = {name: text for name, text in environment.items() if name.startswith(ENVIRONMENT_PREFIX)}
    return {
        tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__", 1)): Variable(text)
        for name, text in prefixed.items()
    }


def _unread(model: type[BaseModel], environment: Mapping[str, str]) -> Iterator[str]:
    """Tell of variables that look like settings and have too few underscores to be read."""
    prefix = ENVIRONMENT_PREFIX.rstrip("_")
    for section, field in model.model_fields.items():
        keys = keys_of(field.annotation) if isinstance(field.annotation, type) else ()
        for key in keys:
            name, meant = (dash.join((prefix, section, key)).upper() for dash in ("_", "__"))
            if name in environment:
                yield f"the variable {name} is not read; did you mean {meant}?"


def _nested(variables: Mapping[KeyPath, Variable]) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for (section, *key), text in variables.items():
        values |= {str(section): {**values.get(str(section), {}), str(key[0]): text} if key else text}
    return values
