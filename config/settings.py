"""The settings model: one TOML file, read once at start, validated, with a default for everything.

Anything can also be set by environment: ``DICOM_NODE__DICOM__PORT=11113`` overrides ``[dicom] port``.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from dicom_node.config.incoming import (
    AeSettings,
    ApiSettings,
    DicomSettings,
    DicomTlsSettings,
    Peer,
    SourceSettings,
    StowSettings,
    UploadSettings,
    User,
    WatchSettings,
)
from dicom_node.config.outgoing import DeliverySettings, DestinationSettings, FhirSettings, ResultSettings
from dicom_node.config.running import DatabaseSettings, InferenceSettings, NodeSettings, RouteSettings
from dicom_node.config.section import Section
from dicom_node.core.errors import SettingsError

ENVIRONMENT_PREFIX = "DICOM_NODE__"


class Settings(Section):
    """The whole configuration."""

    node: NodeSettings = NodeSettings()
    dicom: DicomSettings = DicomSettings()
    dicom_tls: DicomTlsSettings = DicomTlsSettings()
    database: DatabaseSettings = DatabaseSettings()
    api: ApiSettings = ApiSettings()
    stow: StowSettings = StowSettings()
    upload: UploadSettings = UploadSettings()
    inference: InferenceSettings = InferenceSettings()
    delivery: DeliverySettings = DeliverySettings()
    results: ResultSettings = ResultSettings()
    fhir: FhirSettings = FhirSettings()
    ae: tuple[AeSettings, ...] = ()
    peer: tuple[Peer, ...] = ()
    user: tuple[User, ...] = ()
    destination: tuple[DestinationSettings, ...] = ()
    source: tuple[SourceSettings, ...] = ()
    watch: tuple[WatchSettings, ...] = ()
    route: tuple[RouteSettings, ...] = ()

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        known = [d.name for d in self.destination]
        sources = [s.name for s in self.source]
        for names, what in ((known, "destination"), (sources, "source"), ([r.name for r in self.route], "route")):
            doubled = {n for n in names if names.count(n) > 1}
            if doubled:
                raise ValueError(f"two {what}s are named {', '.join(sorted(doubled))}; names must be unique")
        for route in self.route:
            unknown = sorted(set(route.destinations) - set(known))
            if unknown:
                raise ValueError(
                    f"route {route.name!r} names destination {', '.join(unknown)}, which is not configured; "
                    f"known: {', '.join(known) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _shadows_have_something_to_shadow(self) -> Self:
        live = {route.name for route in self.route if not route.shadow}
        for route in self.route:
            if route.shadow != bool(route.shadow_of) or (route.shadow and route.shadow_of not in live):
                raise ValueError(
                    f"route {route.name!r}: shadow = true and shadow_of belong together, and shadow_of must name a "
                    f"route that is none itself: {', '.join(sorted(live)) or 'there is none'}"
                )
            if route.shadow and route.destinations:
                raise ValueError(f"route {route.name!r} is a shadow and delivers nothing; remove its destinations")
        return self

    @model_validator(mode="after")
    def _beyond_loopback_needs_a_list_of_peers(self) -> Self:
        hosts = [self.dicom.host, *([self.dicom_tls.host or self.dicom.host] if self.dicom_tls.certificate else [])]
        if not all(map(_is_loopback, hosts)) and not self.peer:
            raise ValueError(
                f"dicom.host {' / '.join(hosts)} is reachable from other machines but no [[peer]] is configured; "
                "list who may send (ae_title and host), or bind 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _any_name_needs_an_authority_of_ones_own(self) -> Self:
        """Else every certificate that the system trusts, the whole web's, would do."""
        if self.dicom_tls.ca:
            return self
        called: list[DestinationSettings | SourceSettings] = [*self.destination, *self.source]
        for one in called:
            if one.tls_server_name == "*" and not one.tls_ca:
                raise ValueError(f'{one.name!r}: tls_server_name = "*" needs tls_ca (or dicom_tls.ca)')
        for peer in self.peer:
            if peer.port_tls:
                raise ValueError(f"peer {peer.ae_title!r}: port_tls needs dicom_tls.ca")
        return self

    @model_validator(mode="after")
    def _watched_folders_are_apart(self) -> Self:
        folders = [watch.path.resolve() for watch in self.watch]
        data_dir = self.node.data_dir.resolve()
        for number, folder in enumerate(folders):
            others = [data_dir, *folders[:number], *folders[number + 1 :]]
            if any(folder.is_relative_to(other) or other.is_relative_to(folder) for other in others):
                raise ValueError(f"watch {folder} lies in node.data_dir or in another watched folder, or holds one")
        return self

    @model_validator(mode="after")
    def _somebody_can_come_in(self) -> Self:
        if not self.dicom.plain and not self.dicom_tls.certificate:
            raise ValueError("dicom.plain is false and dicom_tls.certificate is not set: nobody could send anything")
        titles = [self.node.ae_title, *(ae.ae_title for ae in self.ae)]
        if len(set(titles)) != len(titles):
            raise ValueError(f"an AE title is given twice: {', '.join(titles)}")
        return self

    @property
    def own_models_dir(self) -> Path:
        """The folder that `dicom-node models add` fills."""
        return self.node.data_dir / "models"

    @property
    def models_dirs(self) -> tuple[Path, ...]:
        """Every folder of model folders besides the shipped one."""
        return (self.own_models_dir, *self.inference.models_dirs)

    @property
    def database_url(self) -> str:
        """The URL to connect to: as configured, or SQLite in the data folder."""
        return self.database.url or f"sqlite:///{self.node.data_dir.resolve() / 'node.sqlite'}"


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings: `default.toml` of the package, then `path`, then the environment.

    A list (`[[route]]`, `[[destination]]`, `[[peer]]`) in `path` replaces the default list. Raises `SettingsError`
    naming the file, the key and what is wrong.
    """
    values = _read_toml(Path(__file__).with_name("default.toml"))
    if path is not None:
        values = _merged(values, _read_toml(path))
    values = _merged(values, _from_environment(os.environ if environment is None else environment))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"Configuration {path or 'defaults'} cannot be used. {problems}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"Configuration {path} cannot be read: {error.strerror}. Check --config.") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"Configuration {path} is not valid TOML: {error}.") from error


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: tables key by key, everything else replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if name.startswith(ENVIRONMENT_PREFIX):
            values |= {section: {**values.get(section, {}), key: text} if key else text}
    return values


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
