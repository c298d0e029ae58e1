"""The settings model: one TOML file, read once at start, validated, with a default for everything.

Anything can also be set by environment: ``DICOM_NODE__DICOM__PORT=11113`` overrides ``[dicom] port``.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from dicom_node.errors import SettingsError

ENVIRONMENT_PREFIX = "DICOM_NODE__"

#: PS3.5 6.2, VR AE: 1 to 16 printable ASCII characters, no backslash, no space at the ends.
_AE_TITLE = r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?$"
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=_AE_TITLE)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration; an unknown key is an error, because a typing mistake must not pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSettings(Section):
    ae_title: AeTitle = Field("AINODE", description="AE title the node answers to and calls others with.")
    data_dir: Path = Field(Path("dicom-node-data"), description="Folder for the database, objects and keys.")
    institution: str = Field("", description="Organisation named as performer in FHIR reports.")
    intended_use: Literal["clinical", "research"] = Field(
        "clinical", description="`research` adds RESEARCH ONLY to every text; nothing ever removes NOT VERIFIED."
    )
    time_zone: str = Field("", description="IANA name of the site's time zone, `Europe/Berlin`; none: the machine's.")
    min_free_mb: int = Field(1024, ge=0, description="Refuse new objects (0xA700) when less disk than this is free.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe log line.")

    @field_validator("time_zone")
    @classmethod
    def _time_zone_is_known(cls, name: str) -> str:
        if name:
            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError(
                    f"{name!r} is no time zone this machine knows; use an IANA name such as Europe/Berlin"
                ) from error
        return name


class DicomSettings(Section):
    host: str = Field("127.0.0.1", description="Address the DICOM listener binds.")
    port: Port = Field(11112, description="Port of the DICOM listener.")
    plain: bool = Field(True, description="Listen without TLS; `false` leaves only the TLS listener.")
    max_associations: int = Field(64, ge=1, description="Associations served at once.")
    max_associations_per_peer: int = Field(32, ge=1, description="Associations served at once for one address.")
    max_pdu_bytes: int = Field(131072, ge=16384, le=1 << 20, description="Largest PDU offered to peers.")
    max_object_mb: int = Field(4096, ge=1, description="Largest object accepted.")
    network_timeout_s: Seconds = Field(60, description="Idle time after which an association is aborted.")
    pdu_timeout_s: Seconds = Field(
        30, description="Longest time a connection's first request, or any PDU once it has begun, may take."
    )
    journal_mb: int = Field(
        1024,
        ge=4,
        description="Disk for objects answered and not yet filed; a quarter of what is free at most.",
    )
    accept_any_sop_class: bool = Field(False, description="Accept private and unknown storage SOP classes too.")
    commitment_retry_h: float = Field(
        24, gt=0, description="How long the outcome of a storage commitment is offered to a peer that is away."
    )


class DicomTlsSettings(Section):
    host: str = Field("", description="Address the TLS listener binds; empty: `dicom.host`.")
    port: Port = Field(2762, description="Port of the TLS listener.")
    certificate: Path | None = Field(None, description="The node's certificate chain (PEM); setting it turns TLS on.")
    private_key: Path | None = Field(None, description="Its private key (PEM); none: it is in the certificate's file.")
    ca: Path | None = Field(None, description="Certificates (PEM) of the authorities that sign peers' certificates.")
    client_certificate: Literal["required", "optional", "none"] = Field(
        "required", description="Whether a peer must show a certificate signed by `ca`."
    )
    handshake_timeout_s: Seconds = Field(10, description="Longest time a TLS handshake may take.")

    @model_validator(mode="after")
    def _peers_can_be_verified(self) -> Self:
        if self.certificate and self.client_certificate != "none" and not self.ca:
            raise ValueError('set ca, or client_certificate = "none" if peers need not show one')
        return self


class DatabaseSettings(Section):
    url: str = Field("", description="SQLAlchemy URL; empty means SQLite inside `node.data_dir`.")


class ApiSettings(Section):
    enabled: bool = Field(True, description="Serve the admin API and page.")
    host: str = Field("127.0.0.1", description="Address the API binds.")
    port: Port = Field(8042, description="Port of the API and page.")
    token_file: Path | None = Field(None, description="File with the API token; default: generated in `data_dir`.")


class StowSettings(Section):
    enabled: bool = Field(True, description="Take studies over STOW-RS, at `/dicom-web/studies` of the API.")
    max_request_mb: int = Field(16384, ge=1, description="Largest body of one request.")
    silence_s: Seconds = Field(60, description="Longest silence of a client in the middle of a body.")


class UploadSettings(Section):  # its limits on archives hold for watched folders too
    enabled: bool = Field(True, description="Take studies at `POST /api/studies`: files, zip archives, pictures.")
    max_request_mb: int = Field(16384, ge=1, description="Largest body of one request.")
    max_zip_members: int = Field(20000, ge=1, description="Most files in one zip archive.")
    max_unzipped_mb: int = Field(32768, ge=1, description="Largest content of one zip archive.")
    max_zip_ratio: int = Field(200, ge=2, description="Most times a zip archive may grow when it is unpacked.")
    max_picture_megapixels: int = Field(64, ge=1, le=256, description="Largest PNG or JPEG.")
    silence_s: Seconds = Field(60, description="Longest silence of a client in the middle of a body.")


class WatchSettings(Section):
    path: Path = Field(description="Folder whose files are taken in, with those of its subfolders.")
    pattern: str = Field("*", min_length=1, description="Names of files to take, `*.dcm`; case does not matter.")
    settle_s: Seconds = Field(5, description="A file that has not changed for this long is taken to be whole.")
    after: Literal["delete", "move", "keep"] = Field(
        "move", description="What becomes of a file that was taken in; `move`: into the folder `done` in `path`."
    )


class InferenceSettings(Section):
    models_dirs: tuple[Path, ...] = Field((), description="Further folders of model folders, besides the shipped ones.")
    require_activation: Literal["none", "added", "all"] = Field(
        "added",
        description="Whose golden studies must hold on this machine before they run: `added` means all but the models "
        "the node brings along.",
    )
    time_limit_s: Seconds = Field(600, description="Wall-clock limit of one analysis.")
    memory_limit_mb: int = Field(12288, ge=1024, description="Memory limit of each worker process.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
        description="What models run on: `cpu`, `mps`, `cuda`, `cuda:1`; `auto`: CUDA if there is, else MPS, else CPU.",
    )
    workers: int = Field(0, ge=0, le=64, description="Worker processes; 0: one for each GPU, one without a GPU.")
    batch_studies: int = Field(
        1, ge=1, le=64, description="How many waiting studies of one model of single images may share a network call."
    )
    model_budget_mb: int = Field(
        4096, ge=1, description="RAM or GPU memory that one worker's loaded models may hold together."
    )
    max_attempts: int = Field(3, ge=1, le=10, description="Tries before a job is quarantined as FAILED.")
    lease_s: Seconds = Field(60, description="A claim not renewed for this long may be taken by another worker.")


class DeliverySettings(Section):
    first_retry_s: Seconds = Field(5, description="Wait after the first failed attempt; doubles each time.")
    max_retry_s: Seconds = Field(600, description="Longest wait between attempts. There is no last attempt.")
    timeout_s: Seconds = Field(60, description="Time limit of one attempt.")


class ResultSettings(Section):
    sr_sop_class: Literal["comprehensive3d", "comprehensive", "enhanced"] = Field(
        "comprehensive3d", description="SOP class of structured reports; choose what the PACS displays."
    )


class FhirSettings(Section):
    patient_system: str = Field("", description="Identifier system of PatientID when the images name no issuer.")
    issuers: Mapping[str, str] = Field(
        {},
        description="IssuerOfPatientID to FHIR identifier system. Once there is an entry, patients of any other named "
        "issuer are refused; while there is none, `patient_system` holds for all.",
    )
    accession_system: str = Field("", description="Identifier system of AccessionNumber.")
    dicomweb_url: str = Field("", description="WADO-RS address of the PACS, for the FHIR Endpoint.")


class Peer(Section):
    ae_title: AeTitle = Field(description="Calling AE title that may send.")
    host: str = Field("0.0.0.0/0", description="Address or network (CIDR) it may come from.")
    tls: bool = Field(False, description="Let it in over TLS only.")
    certificate_sha256: str = Field(
        "", pattern="^([0-9a-f]{64})?$", description="SHA-256 of the certificate (DER, hex) it must show; none: any."
    )
    port: Port | None = Field(None, description="Port of its own listener, for outcomes of storage commitment.")

    @model_validator(mode="after")
    def _host_is_a_network(self) -> Self:
        ipaddress.ip_network(self.host, strict=False)
        return self


class AeSettings(Section):
    ae_title: AeTitle = Field(description="A further AE title the node answers to, besides `node.ae_title`.")
    peers: tuple[AeTitle, ...] = Field((), description="Calling AE titles let in here; empty: every `[[peer]]`.")
    tls: bool = Field(False, description="Let peers in over TLS only.")
    accept_any_sop_class: bool = Field(False, description="Accept private and unknown storage SOP classes too.")


class User(Section):
    name: str = Field(min_length=1, description="User name that a peer must give (user identity negotiation).")
    password: SecretStr = Field(SecretStr(""), description="Its passcode; none: the name alone is enough.")


class DestinationSettings(Section):
    name: str = Field(min_length=1, description="Name used by routes.")
    kind: Literal["dicom", "dicomweb", "fhir", "folder"] = Field(description="How results get there.")
    ae_title: AeTitle | None = Field(None, description="dicom: called AE title.")
    host: str = Field("", description="dicom: address of the PACS.")
    port: Port = Field(104, description="dicom: port of the PACS.")
    url: str = Field("", description="dicomweb, fhir: base address.")
    path: Path | None = Field(None, description="folder: where files are written.")
    token: SecretStr | None = Field(None, description="dicomweb, fhir: bearer token.")
    username: str = Field("", description="dicomweb, fhir: user for basic authentication.")
    password: SecretStr | None = Field(None, description="dicomweb, fhir: password for basic authentication.")
    patient: Literal["match", "logical"] = Field(
        "match",
        description="fhir: `match` finds the Patient by identifier and parks if it is not exactly one; "
        "`logical` sends the identifier without a look-up.",
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needed = {"dicom": ("ae_title", "host"), "dicomweb": ("url",), "fhir": ("url",), "folder": ("path",)}
        missing = [key for key in needed[self.kind] if not getattr(self, key)]
        if missing:
            raise ValueError(f"destination {self.name!r} of kind {self.kind} needs {', '.join(missing)}")
        return self


class SourceSettings(Section):
    name: str = Field(min_length=1, max_length=64, description="Name used by `dicom-node retrieve` and the API.")
    kind: Literal["dimse", "dicomweb", "orthanc"] = Field(description="How studies are found and fetched there.")
    ae_title: AeTitle | None = Field(None, description="dimse: called AE title.")
    host: str = Field("", description="dimse: address of the PACS.")
    port: Port = Field(104, description="dimse: port of the PACS.")
    retrieve: Literal["get", "move"] = Field(
        "get", description="dimse: `get` fetches on the same association; `move` has the PACS send to the node's port."
    )
    move_destination: AeTitle | None = Field(
        None, description="dimse, `move`: AE title the PACS sends to; default: `node.ae_title`."
    )
    url: str = Field("", description="dicomweb: where `/studies` begins; orthanc: address of its REST interface.")
    token: SecretStr | None = Field(None, description="dicomweb: bearer token.")
    username: str = Field("", description="dicomweb, orthanc: user for basic authentication.")
    password: SecretStr | None = Field(None, description="dicomweb, orthanc: password for basic authentication.")
    timeout_s: Seconds = Field(60, description="Longest silence of the PACS before the retrieval ends as failed.")

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needed = {"dimse": ("ae_title", "host"), "dicomweb": ("url",), "orthanc": ("url",)}
        missing = [key for key in needed[self.kind] if not getattr(self, key)]
        if missing:
            raise ValueError(f"source {self.name!r} of kind {self.kind} needs {', '.join(missing)}")
        return self


class RouteSettings(Section):
    name: str = Field(min_length=1, description="Name shown in timelines.")
    model: str = Field(min_length=1, description="Model folder name; see `dicom-node models list`.")
    destinations: tuple[str, ...] = Field((), description="Destination names; empty means all.")
    when: dict[str, Any] | list[dict[str, Any]] = Field(
        default_factory=dict, description="Conditions one series must meet; a list means any of its tables."
    )
    rank: tuple[str, ...] = Field((), description="Order of candidate series, best first; empty: the model's own.")
    quiet_period_s: Seconds = Field(30, description="No new image for this long means the study is complete.")
    max_wait_s: Seconds = Field(7200, description="Run at the latest after this, marked PARTIAL.")
    parameters: dict[str, float] = Field(default_factory=dict, description="Overrides of the model card's parameters.")
    priority: Literal["images", "stat", "high", "routine", "low"] = Field(
        "images", description="Whose job is run first; `images`: as RequestedProcedurePriority says, else `routine`."
    )
    shadow: bool = Field(False, description="Run and compare with `shadow_of`, and deliver nothing.")
    shadow_of: str = Field(
        "", description="Route whose studies this one gets too; `when` and `rank` are that route's unless given here."
    )


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
