"""What differs between two readings of the settings, told without secrets, and what of it a running node takes over."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr
from pydantic_core import to_json

from dicom_node.config.settings import Settings

#: What a running node takes over (`dicom-node reload`), a table with all that is in it. Anything else needs a restart.
LIVE = frozenset({"node.log_level", "ae", "peer", "user", "destination", "source", "route"})
#: What tells the entries of a table apart, where it is not their name.
_TOLD_APART_BY: Mapping[str, tuple[str, ...]] = {"ae": ("ae_title",), "peer": ("ae_title", "host"), "watch": ("path",)}
_LONGEST = 120


class ChangeKind(StrEnum):
    """What became of a setting; in another order stands a table whose entries are the same."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class ChangedValue:
    """One key and what it was and is; `None` both times for a secret, and for what may hold one."""

    key: str
    before: str | None
    after: str | None

    @property
    def in_words(self) -> str:
        """As an operator reads it."""
        return f"{self.key} changed" if self.before == self.after else f"{self.key} {self.before} → {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """What became of one setting, ``dicom.port``, or of one entry of a table: ``destination`` and its name."""

    setting: str
    entry: str = ""
    kind: ChangeKind = ChangeKind.CHANGED
    values: tuple[ChangedValue, ...] = ()

    @property
    def is_live(self) -> bool:
        """Tell whether a running node takes it over."""
        return is_live(self.setting)

    @property
    def name(self) -> str:
        """The setting, and the entry where it is one: ``destination pacs``."""
        return f"{self.setting} {self.entry}".rstrip()

    @property
    def in_words(self) -> str:
        """As an operator reads it."""
        if self.kind is ChangeKind.ADDED:
            return f"{self.name} is new"
        if self.kind is ChangeKind.REMOVED:
            return f"{self.name} is gone"
        if self.kind is ChangeKind.MOVED:
            return f"{self.name}: the entries stand in another order"
        if self.entry:
            return f"{self.name}: {', '.join(one.in_words for one in self.values)}"
        return ", ".join(one.in_words for one in self.values)


def is_live(setting: str) -> bool:
    """Tell whether a running node takes a setting over: a section's key, ``node.log_level``, or a table, ``peer``."""
    return setting in LIVE


def changes_between(before: Settings, after: Settings) -> tuple[SettingChange, ...]:
    """Return what is other in `after`, in the order of the sections."""
    return tuple(
        change
        for section in type(after).model_fields
        for change in _of_section(section, getattr(before, section), getattr(after, section))
    )


def renamed(before: Settings, after: Settings) -> Sequence[tuple[str, str]]:
    """Return destinations that are gone while another one is new and equal in all but the name: old name and new."""
    gone = [one for one in before.destination if one.name not in {two.name for two in after.destination}]
    new = [one for one in after.destination if one.name not in {two.name for two in before.destination}]
    return [(old.name, one.name) for old in gone for one in new if one == old.model_copy(update={"name": one.name})]


def revision_of(settings: Settings, key: bytes) -> str:
    """Return what tells these settings from any others, secrets included, on this node: a digest under a key of the
    node, of which nobody without the key can try what a secret may be."""
    text = json.dumps(settings.model_dump(), sort_keys=True, default=_revealed)
    return hmac.new(key, b"settings\x1f" + text.encode(), hashlib.sha256).hexdigest()[:12]


def _revealed(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _of_section(section: str, before: Any, after: Any) -> Iterator[SettingChange]:
    if isinstance(after, tuple):
        yield from _of_table(section, before, after)
        return
    for value in _values(before, after):
        yield SettingChange(setting=f"{section}.{value.key}", values=(_with_section(section, value),))


def _with_section(section: str, value: ChangedValue) -> ChangedValue:
    return ChangedValue(f"{section}.{value.key}", value.before, value.after)


def _of_table(table: str, before: Sequence[BaseModel], after: Sequence[BaseModel]) -> Iterator[SettingChange]:
    was, now = (_by_entry(table, entries) for entries in (before, after))
    for entry in (one for one in was if one not in now):
        yield SettingChange(setting=table, entry=entry, kind=ChangeKind.REMOVED)
    for entry, one in now.items():
        if entry not in was:
            yield SettingChange(setting=table, entry=entry, kind=ChangeKind.ADDED)
        elif values := tuple(_values(was[entry], one)):
            yield SettingChange(setting=table, entry=entry, values=values)
    if was.keys() == now.keys() and list(was) != list(now):
        yield SettingChange(setting=table, kind=ChangeKind.MOVED)


def _by_entry(table: str, entries: Sequence[BaseModel]) -> Mapping[str, BaseModel]:
    """Return the entries of a table by what tells them apart; of equals the second is ``CT1 (2)``."""
    found: dict[str, BaseModel] = {}
    for one in entries:
        keys = _TOLD_APART_BY.get(table, ("name",))
        name = " ".join(str(getattr(one, key)) for key in keys)
        count = sum(known == name or known.startswith(f"{name} (") for known in found)
        found[f"{name} ({count + 1})" if count else name] = one
    return found


def _values(before: BaseModel | None, after: BaseModel | None) -> Iterator[ChangedValue]:
    """Yield every key that has another value; of a section inside, each of its own keys."""
    kinds = {type(one) for one in (before, after) if one is not None}
    for key in dict.fromkeys(key for kind in kinds for key in kind.model_fields):
        was, now = (getattr(one, key, None) for one in (before, after))
        if isinstance(was, BaseModel) or isinstance(now, BaseModel):
            for inner in _values(was, now):
                yield ChangedValue(f"{key}.{inner.key}", inner.before, inner.after)
        elif was != now:
            told = (_told(was), _told(now))
            yield ChangedValue(key, *((None, None) if None in told or told[0] == told[1] else told))


def _told(value: Any) -> str | None:
    """Return a value as anybody may read it: secrets not at all, and of an address the host alone: the rest of it
    may hold one."""
    if isinstance(value, SecretStr):
        return None
    if value is None:
        return "none"
    if isinstance(value, str) and "://" in value:
        return _host_of(value)
    text = str(value) if isinstance(value, str) else to_json(value, serialize_unknown=True).decode()
    return text if len(text) <= _LONGEST and "://" not in text else None


def _host_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
