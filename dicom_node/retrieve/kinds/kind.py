"""What a kind of source is: its settings are its fields, and it makes what finds and fetches studies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import ValidationInfo, model_validator

from dicom_node.config.incoming import SourceSettings
from dicom_node.config.section import without_keys_of_other_kinds

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.retrieve.source import Source

#: What 0.1.0 took, and left unused, in a source of any kind.
_KEYS_OF_0_1_0 = frozenset({
    "ae_title", "host", "port", "tls", "tls_ca", "tls_server_name", "retrieve", "move_destination", "url", "token",
    "username", "password",
})  # fmt: skip


class SourceKind(SourceSettings, ABC):
    """A configured source of some kind."""

    @model_validator(mode="before")
    @classmethod
    def _old_keys_are_ignored(cls, values: Any, info: ValidationInfo) -> Any:
        return without_keys_of_other_kinds(cls, values, _KEYS_OF_0_1_0, info)

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, for people."""

    @abstractmethod
    def source(self, settings: Settings) -> Source:
        """Return what finds and fetches studies there; nothing is opened yet."""
