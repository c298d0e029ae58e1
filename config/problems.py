"""What is wrong with settings, in an operator's words: where it was written, what it is, what it should be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dicom_node.config.section import Truth, keys_of
from dicom_node.config.toml_lines import KeyPath

#: What a value must be, by pydantic's name of the error.
_MUST_BE: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text in quotation marks",
    "path": "the path of a file or folder, in quotation marks",
    "tuple": "a list",
    "list": "a list",
    "model": "a table of keys",
    "dict": "a table of keys",
    "mapping": "a table of keys",
    "finite": "a finite number",
}
_BOUNDS = {"greater_than": "more than {gt}", "greater_than_equal": "at least {ge}", "less_than": "less than {lt}",
           "less_than_equal": "at most {le}", "string_too_long": "at most {max_length} letters long",
           "literal_error": "{expected}"}  # fmt: skip
#: Values of keys with these words in them are not repeated.
_SECRET_WORDS = ("password", "token", "secret", "url", "key")


@dataclass(frozen=True, slots=True)
class Places:
    """Where each value was written: in which file, on which line; or by which variable of the environment."""

    file: Path | None
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    variables: Mapping[KeyPath, str] = field(default_factory=dict)

    def of(self, path: KeyPath) -> str:
        """Return the place of a value, or of what it would stand in: ``node.toml:17``, or a variable's name."""
        nearest = next((near for near in _from_within(path) if near in self.variables or near in self.lines), ())
        if nearest in self.variables:
            return self.variables[nearest]
        if nearest:
            return f"{self.file}:{self.lines[nearest]}"
        within = next((name for key, name in self.variables.items() if path and key[: len(path)] == path), "")
        return within or str(self.file or "settings")

    def line_of(self, path: KeyPath) -> int:
        """Return the line of a value, or of what it would stand in; 0 where it is not in the file."""
        return next((self.lines[near] for near in _from_within(path) if near in self.lines), 0)


def problems_in(error: ValidationError, settings: type[BaseModel], places: Places) -> Sequence[str]:
    """Return one line for each thing that is wrong, in the order of the file."""
    told: dict[str, KeyPath] = {}
    for detail in error.errors(include_url=False):
        for path, text in _problem(detail, settings):
            told.setdefault(f"{places.of(path)}: {text}", path)
    return sorted(told, key=lambda line: places.line_of(told[line]))


def _from_within(path: KeyPath) -> Iterator[KeyPath]:
    return (path[:length] for length in range(len(path), 0, -1))


def _problem(detail: ErrorDetails, settings: type[BaseModel]) -> Iterator[tuple[KeyPath, str]]:
    path, sections = _walk(settings, detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    name = ".".join(map(str, path))
    match kind:
        case "refused_key":
            path = (*path, context["key"])
            yield path, f"{'.'.join(map(str, path))}: {context['text']}"
        case "value_error":
            yield path, f"{name}: {context['error']}" if name else str(context["error"])
        case "extra_forbidden":
            yield path, f"{name} {_unknown_key(path, sections[-1], is_top=len(sections) == 1)}"
        case "missing":
            yield path, f"{name} is missing{_needed_by(sections[-1])}"
        case "union_tag_invalid" | "union_tag_not_found":
            yield (*path, "kind"), f"{name}.kind {_unknown_kind(context.get('tag'), _kinds_at(sections[-1], path))}"
        case _:
            yield path, f"{name} {_shown(path, detail['input'])}{_must(kind, context)}"


def _walk(settings: type[BaseModel], location: Sequence[str | int]) -> tuple[KeyPath, Sequence[type[BaseModel]]]:
    """Return the keys as they are written, without pydantic's own names in between, and the sections on the way."""
    path: list[str | int] = []
    sections: list[type[BaseModel]] = [settings]
    kinds: Mapping[str, type[BaseModel]] = {}
    for part in location:
        if part in kinds:
            sections.append(kinds[str(part)])
            kinds = {}
            continue
        if isinstance(part, str) and any(letter in part for letter in "[]-"):
            break  # a branch of a union, as in `list[dict[str,any]]`
        path.append(part)
        known = sections[-1].model_fields.get(str(part)) if isinstance(part, str) else None
        if known is not None:
            below = _sections_in(known.annotation)
            kinds = _by_kind(below)
            if len(below) == 1:
                sections.append(below[0])
    return tuple(path), sections


def _sections_in(annotation: Any) -> Sequence[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(one for part in get_args(annotation) for one in _sections_in(part))


def _by_kind(sections: Sequence[type[BaseModel]]) -> Mapping[str, type[BaseModel]]:
    if len(sections) < 2:
        return {}
    return {get_args(one.model_fields["kind"].annotation)[0]: one for one in sections}


def _kinds_at(section: type[BaseModel], path: KeyPath) -> Sequence[str]:
    return tuple(_by_kind(_sections_in(section.model_fields[str(path[0])].annotation)))


def _unknown_key(path: KeyPath, section: type[BaseModel], *, is_top: bool) -> str:
    key, keys = str(path[-1]), keys_of(section)
    if key in keys:
        return "is another name of a key that is set as well; keep one of the two"
    near = difflib.get_close_matches(key, keys, n=1)
    where = "the settings" if is_top else _called(section, path)
    advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
    return f"is no key of {where}; {advice}"


def _called(section: type[BaseModel], path: KeyPath) -> str:
    kind = _kind_of(section)
    above = ".".join(str(part) for part in path[:-1] if isinstance(part, str))
    return f"a {above} of kind {kind}" if kind else f"[{above}]"


def _needed_by(section: type[BaseModel]) -> str:
    kind = _kind_of(section)
    return f"; kind {kind} needs it" if kind else ""


def _kind_of(section: type[BaseModel]) -> str:
    kind = section.model_fields.get("kind")
    return str(get_args(kind.annotation)[0]) if kind is not None and get_args(kind.annotation) else ""


def _unknown_kind(given: object, kinds: Sequence[str]) -> str:
    known = ", ".join(kinds)
    if given is None:
        return f"is missing; it must be one of {known}"
    near = difflib.get_close_matches(str(given), kinds, n=1)
    return f"is {given!r}; it must be one of {known}" + (f" (did you mean {near[0]}?)" if near else "")


def _shown(path: KeyPath, value: object) -> str:
    is_secret = any(word in str(part) for part in path for word in _SECRET_WORDS)
    return "" if is_secret or not isinstance(value, str | int | float) else f"is {_as_written(value)}; it "


def _as_written(value: str | float) -> str:
    if isinstance(value, Truth):
        return str(value)
    return str(value).lower() if isinstance(value, bool) else repr(str(value) if isinstance(value, str) else value)


def _must(kind: str, context: Mapping[str, Any]) -> str:
    if kind == "string_too_short":
        return "must not be empty"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**{key: _plain(value) for key, value in context.items()})}"
    wanted = _MUST_BE.get(kind.partition("_")[0])
    return f"must be {wanted}" if wanted else "cannot be used"


def _plain(bound: object) -> object:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound
