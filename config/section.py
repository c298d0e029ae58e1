"""What every section of the settings is made of: its kinds of value, its files, its secrets."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dicom_node.config.files import require_regular

#: PS3.5 6.2, VR AE: 1 to 16 printable ASCII characters, no backslash, no space at the ends.
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values come from that are being validated, and what is to be told of them though they can be used."""

    folder: Path
    remarks: list[str] = field(default_factory=list)
    #: Tells where a value was written, by the way to it: ``node.toml:17``.
    place_of: Callable[[tuple[str | int, ...]], str] = lambda _path: "settings"


class Variable(str):
    """A value that came from the environment: its paths are relative to the working directory."""

    __slots__ = ()


class Truth(str):
    """`true` or `false` where a number is wanted; Python would take it for 1 or 0."""

    __slots__ = ()


def remark(info: ValidationInfo, text: str) -> None:
    """Tell the operator something about settings that can be used all the same."""
    if isinstance(info.context, Origin):
        info.context.remarks.append(text)
    else:
        _log.warning("settings", extra={"why": text})


def refused(key: str, text: str) -> PydanticCustomError:
    """Return the error of one key, to be raised by a validator of its whole section."""
    return PydanticCustomError("refused_key", "{text}", {"key": key, "text": text})


def _ae_title(text: str) -> str:
    if not _AE_TITLE.fullmatch(text):
        raise ValueError("an AE title is 1 to 16 letters of ASCII, without backslash and without blanks at its ends")
    return text


def _possible(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("no path holds a NUL character")
    return path


def _beside_the_file(value: object, info: ValidationInfo) -> object:
    """Take a relative path of a file as relative to that file."""
    if not isinstance(value, str) or isinstance(value, Variable) or not isinstance(info.context, Origin):
        return value
    return info.context.folder / value


def _found_as_before(value: object, info: ValidationInfo) -> object:
    """Take a relative path of a file as relative to that file, or as version 0.1.0 did, to the working directory.

    What exists only there is found there for one version more, with a remark.
    """
    beside = _beside_the_file(value, info)
    if beside is value or not isinstance(beside, Path):
        return value
    path = Path(str(value))
    if (
        "\0" in str(value)
        or path.is_absolute()
        or beside.exists()
        or not path.exists()
        or beside.resolve() == path.resolve()
    ):
        return beside
    remark(
        info,
        f"{info.field_name} = {value!r} is used relative to the working directory, because {beside} does not exist; "
        f"the next version takes it as relative to the settings file only. Write {str(path.resolve())!r}.",
    )
    return path


def keys_of(section: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys a section takes, with those that are another spelling of one."""
    keys = dict.fromkeys(section.model_fields)
    for one in section.model_fields.values():
        if isinstance(one.validation_alias, AliasChoices):
            keys |= dict.fromkeys(name for name in one.validation_alias.choices if isinstance(name, str))
    return tuple(keys)


def without_keys_of_other_kinds(
    section: type[BaseModel], values: Any, old: frozenset[str], info: ValidationInfo
) -> Any:
    """Return the values without those of `old` keys that a section of this kind has no use for, with a remark on each.

    An earlier version took them for every kind and used them for some; a node that ran must start after its upgrade.
    """
    if not isinstance(values, Mapping):
        return values
    useless = [key for key in values if key in old and key not in keys_of(section)]
    for key in useless:
        remark(
            info,
            f"{values.get('name')!r}: {key} is of no use for kind {values.get('kind')} and is ignored, as before; "
            f"the next version refuses it. {_instead_of(key, section)}",
        )
    return {key: value for key, value in values.items() if key not in useless}


def _instead_of(key: str, section: type[BaseModel]) -> str:
    """Return what to do about a useless key: one that says the same may have come since."""
    other = key.removeprefix("tls_")
    return f"Write {other} for it." if other != key and other in keys_of(section) else "Remove it."


def _file_or_nothing(path: Path) -> Path:
    """Let pass what is a file or is not there; whoever opens anything else may wait for ever."""
    try:
        require_regular(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be used: {error.strerror}; name a file") from error
    return path


def _holds_a_secret(path: Path, info: ValidationInfo) -> Path:
    _read_secret(path)
    if path.stat().st_mode & stat.S_IRWXO:
        remark(info, f"{info.field_name}: every user of this machine can read {path}; run: chmod o-rwx {path}")
    return path


def _holds_a_key(path: Path) -> Path:
    require_private(path)
    return path


def require_private(path: Path) -> None:
    """Raise `ValueError` unless the file of a private key can be read by the node, and not by every user."""
    try:
        require_regular(path)
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: {error.strerror}; make it a file that the node's user can read"
        ) from error
    if mode & stat.S_IRWXO:
        raise ValueError(f"every user of this machine can read the private key {path}; run: chmod o-rwx {path}")


def _read_secret(path: Path) -> str:
    """Return the text of a file that holds nothing but one secret. Raises `ValueError`."""
    try:
        require_regular(path)
        text = path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"{path} cannot be read: {why}; make it a file that the node's user can read") from error
    if not text:
        raise ValueError(f"{path} is empty; it must hold the secret and nothing else")
    return text


def _numbers_kept_from_truth(section: type[BaseModel], key: str, value: object) -> object:
    """Return the value of a key; where a number is wanted, `true` and `false` as what is none."""
    known = section.model_fields.get(key)
    wanted = _kinds_in(known.annotation) if known else frozenset()
    if bool in wanted or Any in wanted or not wanted & {int, float}:
        return value
    if isinstance(value, Mapping):
        return {name: _as_truth(one) for name, one in value.items()}
    return [_as_truth(one) for one in value] if isinstance(value, list) else _as_truth(value)


def _as_truth(value: object) -> object:
    return Truth(str(value).lower()) if isinstance(value, bool) else value


def _kinds_in(annotation: Any) -> frozenset[object]:
    """Return the plain types that an annotation is made of."""
    parts = get_args(annotation)
    return frozenset().union(*map(_kinds_in, parts)) if parts else frozenset({annotation})


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=0, le=65535)]
#: No longer than 23 days: a socket takes no longer time limit.
Seconds = Annotated[float, Field(gt=0, le=2_000_000, allow_inf_nan=False)]
#: A file or folder. A relative one in the settings file is relative to that file.
SitePath = Annotated[Path, BeforeValidator(_found_as_before), AfterValidator(_possible)]
#: The same of what is a file, where it is there yet.
SiteFile = Annotated[SitePath, AfterValidator(_file_or_nothing)]
#: A file that holds nothing but one secret.
SecretFile = Annotated[
    Path, BeforeValidator(_beside_the_file), AfterValidator(_possible), AfterValidator(_holds_a_secret)
]
#: A file that holds a private key, which other users of the machine must not be able to read.
KeyFile = Annotated[Path, BeforeValidator(_beside_the_file), AfterValidator(_possible), AfterValidator(_holds_a_key)]


class Section(BaseModel):
    """A part of the configuration; an unknown key is an error, because a typing mistake must not pass silently.

    A secret `token` may instead stand in a file of its own that `token_file` names; it is read once, at start.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _secrets_are_read(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, Mapping):
            return values
        read = {key: _numbers_kept_from_truth(cls, key, value) for key, value in values.items()}
        for secret in cls.model_fields:
            file = f"{secret}_file"
            if file not in cls.model_fields or not values.get(file):
                continue
            if values.get(secret):
                raise refused(file, f"{secret} is set as well; keep one of the two")
            with suppress(ValueError):  # told by the validator of the file's own key
                read[secret] = _read_secret(Path(str(_beside_the_file(values[file], info))))
        return read
