"""The settings of a site: every section, with the kinds of destination and source that this node knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dicom_node.config.loading import load
from dicom_node.config.settings import Settings
from dicom_node.deliver.alarms import AnyAlarm
from dicom_node.deliver.kinds import AnyDestination
from dicom_node.retrieve.kinds import AnySource


class SiteSettings(Settings):
    """The whole configuration."""

    destination: tuple[AnyDestination, ...] = ()
    source: tuple[AnySource, ...] = ()
    alarm: tuple[AnyAlarm, ...] = ()


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> SiteSettings:
    """Read the settings: the defaults, then the file at `path`, then the environment (default: this process's).

    Raises `SettingsError` that names everything that is wrong, each with the file's line or the variable.
    """
    return load(SiteSettings, path, environment)
