"""What a child process gives back, taken without trust: code of strangers may write whatever it likes into the pipe.

Answers cross the border as JSON and are built again from the type that the asker expects, value by value: nothing that
came can name a class or a function, as a pickle could, or hold what the type does not. Files that a child left are
taken by plain names, and only if they are plain files. Standard library only.
"""

from __future__ import annotations

import binascii
import json
import os
import re
import stat
import types
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from dicom_node.core import errors
from dicom_node.core.errors import InferenceError, NodeError

#: A child must not write a larger file; there is no object of a result that comes near it.
LARGEST_FILE_BYTES = 4 << 30
#: Plain data is not nested deeper, so that whoever writes it into a database can walk through it.
_DEEPEST = 64
#: Escapes of NUL and of half characters: text that databases refuse. A backslash before a backslash escapes nothing.
_NO_TEXT = re.compile(r"(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89a-fA-F])")

#: Errors that a child may raise in its parent, and what they carry. It cannot know of the database or of other peers.
_ERRORS: Mapping[type[NodeError], Mapping[str, object]] = {
    errors.InferenceError: {},
    errors.ModelUnavailable: {},
    errors.WorkerDied: {},
    errors.SettingsError: {},
    errors.ReportInvalid: {},
    errors.UnreadableObject: {},
    errors.RefusedObject: {"status": errors.StoreStatus},
    errors.NotAnalysable: {"reason": str},
    errors.SourceDamaged: {"paths": tuple[Path, ...]},
}
_ERROR_NAMES = {kind.__name__: kind for kind in _ERRORS}

_Read = Callable[[Any], Any]


class _OtherThanTold(ValueError):
    """A value is not of the type that is expected."""


# --- in the child ----------------------------------------------------------------------------------------------------


def encoded(value: object) -> bytes:
    """Return a value as bytes: data classes, enumerations, paths, times, bytes and plain data. Raises `TypeError`."""
    return json.dumps(value, ensure_ascii=False, default=_told).encode("utf-8", "surrogatepass")


def _told(value: object) -> object:
    """Say by plain data what JSON has no word for; `_reader` knows the way back."""
    if is_dataclass(value):
        return [type(value).__name__, *(getattr(value, one.name) for one in fields(value))]
    for kind, tell in _TOLD.items():
        if isinstance(value, kind):
            return tell(value)
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} is no part of an answer")


_TOLD: Mapping[type, Callable[[Any], object]] = {
    Enum: lambda one: one.value,
    Path: str,
    datetime: datetime.isoformat,
    bytes: lambda one: binascii.b2a_base64(one, newline=False).decode("ascii"),
    Mapping: dict,
    Set: list,
}


def told_error(error: NodeError) -> tuple[str, dict[str, object]]:
    """Return the class by which an error crosses the border, and what it carries."""
    kind = next((one for one in type(error).__mro__ if one in _ERRORS), InferenceError)
    carried = _ERRORS[cast("type[NodeError]", kind)]
    return kind.__name__, {name: getattr(error, name) for name in carried if hasattr(error, name)}


# --- in the parent ---------------------------------------------------------------------------------------------------


def decoded(content: bytes, kind: object) -> object:
    """Build the value again as `kind` says, a type or what stands for one in annotations; `object` is plain data.

    Raises `InferenceError` for content that is anything else.
    """
    try:
        text = content.decode("utf-8")
        if _NO_TEXT.search(text):
            raise _OtherThanTold("it holds characters that are no text")
        return _reader(kind)(json.loads(text))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        told = str(error) if isinstance(error, _OtherThanTold) else type(error).__name__
        raise InferenceError(
            f"The worker process gave an answer that is none ({told}); nothing of it was kept. A model whose code "
            "does more than compute may be behind it: look at the code that `dicom-node models verify` lists."
        ) from error


def rebuilt_error(class_name: str, message: str, attributes: Mapping[str, object]) -> NodeError:
    """Make an error of a child again, of the same class with the same attributes; `InferenceError` of unknown ones."""
    kind = _ERROR_NAMES.get(class_name, InferenceError)
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    for name, wanted in _ERRORS[kind].items():
        setattr(error, name, decoded(encoded(attributes.get(name)), wanted))
    return error


@cache
def _reader(kind: Any) -> _Read:
    """Return what builds values of a type, or raises `_OtherThanTold`."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of([_reader(part) for part in parts])
    if origin in (list, tuple, Sequence):
        return _sequence(origin, parts)
    if origin in (dict, Mapping):
        return _named(_reader(parts[1]))
    if is_dataclass(origin):
        return _structure(origin, parts)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _checked(str, int, make=kind)
    return _SIMPLE[kind]


def _sequence(origin: object, parts: tuple[Any, ...]) -> _Read:
    if origin is tuple and parts[-1] is not ...:
        return _fixed([_reader(part) for part in parts])
    return _many(_reader(parts[0]), list if origin is list else tuple)


def _checked(*kinds: type, make: _Read = lambda value: value) -> _Read:
    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise _OtherThanTold(f"a {type(value).__name__} is no {' or '.join(kind.__name__ for kind in kinds)}")
        return make(value)

    return read


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise _OtherThanTold("it is nested too deeply")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _plain(one, depth + 1)
    return value


def _one_of(readers: Sequence[_Read]) -> _Read:
    def read(value: Any) -> Any:
        for reader in readers[:-1]:
            try:
                return reader(value)
            except ValueError:
                continue
        return readers[-1](value)

    return read


def _many(reader: _Read, make: _Read) -> _Read:
    return _checked(list, make=lambda values: make([reader(one) for one in values]))


def _fixed(readers: Sequence[_Read]) -> _Read:
    def read(values: list[Any]) -> tuple[Any, ...]:
        return tuple(reader(one) for reader, one in zip(readers, values, strict=True))

    return _checked(list, make=read)


def _named(reader: _Read) -> _Read:
    return _checked(dict, make=lambda values: {name: reader(one) for name, one in values.items()})


def _structure(kind: Any, parts: Sequence[object]) -> _Read:
    """Build a data class. Its fields are looked at when the first is built: a type may hold itself."""
    names = [one.name for one in fields(kind)]
    readers: list[_Read] = []

    def read(values: list[Any]) -> Any:
        if not readers:
            known = dict(zip(getattr(kind, "__parameters__", ()), parts, strict=True))
            hints = get_type_hints(kind)
            readers.extend(_reader(_stands_for(hints[name], known)) for name in names)
        if values[:1] != [kind.__name__] or len(values) != 1 + len(names):
            raise _OtherThanTold(f"it is no {kind.__name__}")
        made = (reader(one) for reader, one in zip(readers, values[1:], strict=True))
        return kind(**dict(zip(names, made, strict=True)))

    return _checked(list, make=read)


def _stands_for(hint: Any, known: Mapping[object, object]) -> object:
    return known[hint] if isinstance(hint, TypeVar) else hint


_SIMPLE: Mapping[object, _Read] = {
    object: _plain,
    Any: _plain,
    None: _checked(type(None)),
    type(None): _checked(type(None)),
    bool: _checked(bool),
    int: _checked(int),
    float: _checked(int, float, make=float),
    str: _checked(str),
    bytes: _checked(str, make=lambda text: binascii.a2b_base64(text, strict_mode=True)),
    Path: _checked(str, make=Path),
    datetime: _checked(str, make=datetime.fromisoformat),
}


# --- files -----------------------------------------------------------------------------------------------------------


def file_left(folder: Path, name: str) -> bytes:
    """Return the content of a file that a child left in a folder.

    Raises `InferenceError` for a name that leads elsewhere, and for what is no plain file of this user with one name:
    a link could show what only the node may read, a pipe could keep it waiting.
    """
    if not name or name in {".", ".."} or Path(name).name != name or "\0" in name:
        raise InferenceError(_NOT_KEPT.format(why="a name outside of its folder"))
    try:
        opened = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InferenceError(_NOT_KEPT.format(why=f"{os.strerror(error.errno or 0)}: {name!a:.40}")) from error
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise InferenceError(_NOT_KEPT.format(why=f"no plain file: {name!a:.40}"))
        if found.st_size > LARGEST_FILE_BYTES:
            raise InferenceError(_NOT_KEPT.format(why=f"more than {LARGEST_FILE_BYTES >> 30} GB: {name!a:.40}"))
        with os.fdopen(opened, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(opened)


_NOT_KEPT = (
    "The worker process named a file of its result that is not one ({why}); nothing of it was kept. A model whose code "
    "does more than compute may be behind it: look at the code that `dicom-node models verify` lists."
)
