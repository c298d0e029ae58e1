"""Sections on the node itself and on its models: identity, database, inference, routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from dicom_node.config.section import AeTitle, KeyFile, Port, Seconds, SecretFile, Section, SiteFile, SitePath, refused


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise ValueError("it must be auto, cpu, mps, cuda, or one GPU as in cuda:1")
    return text


def _conditions(value: object) -> object:
    tables = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, Mapping) for one in tables):
        raise ValueError('it must be a table of conditions, { modality = "CT" }, or a list of such tables')
    return value


class NodeSettings(Section):
    ae_title: AeTitle = Field("AINODE", description="AE title the node answers to and calls others with.")
    data_dir: SitePath = Field(Path("dicom-node-data"), description="Folder for the database, objects and keys.")
    institution: str = Field("", description="Organisation named as performer in FHIR reports.")
    intended_use: Literal["clinical", "research"] = Field(
        "clinical", description="`research` adds RESEARCH ONLY to every text; only a review removes NOT VERIFIED."
    )
    time_zone: str = Field("", description="IANA name of the site's time zone, `Europe/Berlin`; none: the machine's.")
    min_free_mb: int = Field(
        1024,
        ge=0,
        description="With less free disk than this, associations are rejected, and objects of open ones (0xA700).",
    )
    scrub_mb_s: float = Field(
        4,
        ge=0,
        le=10000,
        allow_inf_nan=False,
        description="How much of the kept objects is read again each second, in search of damage; 0: none.",
    )
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


class AuditSyslogSettings(Section):
    host: str = Field(min_length=1, description="Host of the audit repository.")
    port: Port = Field(6514, description="Its port.")
    protocol: Literal["tls", "udp"] = Field(
        "tls", description="`tls`: RFC 5425; `udp`: RFC 5426, which loses messages and keeps none secret."
    )
    ca: SiteFile | None = Field(
        None, description="Certificates (PEM) of the authorities that sign the repository's; none: the system's."
    )
    certificate: SiteFile | None = Field(None, description="The node's certificate chain (PEM), shown to it.")
    private_key: KeyFile | None = Field(None, description="Its private key (PEM); none: in the certificate's file.")
    server_name: str = Field("", description="Name in the repository's certificate; empty: `host`.")


class AuditSettings(Section):
    enabled: bool = Field(True, description="Keep the audit trail; `false` writes acts into the log only.")
    key_file: SiteFile | None = Field(
        None, description="File of the keys that seal it, made at the first start; none: `audit/key` in `data_dir`."
    )
    anchor_file: SiteFile | None = Field(
        None, description="File that names its last record, on another disk than the database; none: `audit/anchor`."
    )
    source_id: str = Field("", max_length=64, description="Audit source of its messages; empty: `node.ae_title`.")
    syslog: AuditSyslogSettings | None = Field(None, description="Audit repository that is sent every record.")
    fhir: str = Field("", max_length=64, description="Destination of kind `fhir` that is sent every record.")


def _server_address(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        is_address = bool(parts.hostname) and parts.port != 0 and not (parts.path or parts.query or parts.username)
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(f"{text!r} must be a host, or HOST:PORT")
    return text


class TimeSettings(Section):
    servers: tuple[Annotated[str, AfterValidator(_server_address)], ...] = Field(
        (),
        max_length=8,
        description="NTP servers, `HOST` or `HOST:PORT`, that the clock is compared with; none: it is not.",
    )
    max_offset_s: Seconds = Field(1, description="The clock may be off by so much before it is told.")
    ask_every_s: float = Field(600, ge=16, le=86400, description="How often they are asked.")
    silent_after_s: Seconds = Field(7200, description="It is told, too, when none has told the time for so long.")

    @property
    def addresses(self) -> tuple[tuple[str, int | None], ...]:
        """Host and port of each server; without a port, `None`."""
        parts = [urlsplit(f"//{one}") for one in self.servers]
        return tuple((one.hostname or "", one.port) for one in parts)


class RetentionSettings(Section):
    images_days: int = Field(
        0, ge=0, le=36500, description="Images go when nothing has happened to their study for so many days; 0: never."
    )
    results_days: int = Field(
        0, ge=0, le=36500, description="So do the objects of its results, after the images; 0: never."
    )
    keep_free_mb: int = Field(
        0,
        ge=0,
        description="With less free disk than this the oldest go first until it is free again; 0: never. Above "
        "`node.min_free_mb`.",
    )

    @model_validator(mode="after")
    def _images_go_first(self) -> Self:
        if self.results_days and not 0 < self.images_days <= self.results_days:
            raise refused(
                "results_days", "images go first: it needs images_days, set and not larger, or must itself be left out"
            )
        return self


class ReportSettings(Section):
    hl7: bool = Field(
        False, description="Take radiologists' reports (ORU^R01) at the HL7 listener, to hold the models against them."
    )
    fhir: str = Field(
        "",
        description="Destination of kind `fhir` whose server is asked for reports on analysed studies; none: no one.",
    )
    languages: tuple[Literal["en", "de"], ...] = Field(
        ("en", "de"), min_length=1, description="Languages that reports are written in."
    )
    keep_text_days: float = Field(
        0, ge=0, le=36500, description="How long the text of a report is kept; 0: until it was read, a moment later."
    )
    unmatched_days: float = Field(
        30, gt=0, le=36500, description="How long a report waits for a study with its numbers before it is forgotten."
    )
    search_after_h: float = Field(
        4, ge=0, le=8760, description="How long after a result the EHR is asked for the report, first."
    )
    search_days: float = Field(
        14, gt=0, le=365, description="How long it is asked again, ever less often, until there is one."
    )

    @property
    def are_wanted(self) -> bool:
        """Whether reports come at all."""
        return self.hl7 or bool(self.fhir)


class DriftSettings(Section):
    enabled: bool = Field(True, description="Look every day whether inputs or outputs have changed.")
    reference_days: int = Field(
        56, ge=7, le=364, description="The first results of a scanner and model version, of whole weeks of at least so "
        "many days, are the reference.",
    )  # fmt: skip
    reference_results: int = Field(200, ge=50, le=5000, description="It holds at least so many results.")
    false_alarms: float = Field(
        0.1, gt=0, le=1, description="So many false alarms are expected at most in a quarter, of one scanner and route."
    )
    smallest_shift: float = Field(
        0.1, ge=0, le=0.9, description="The smallest difference that matters, 0 to 1: Kolmogorov-Smirnov D, or half "
        "the sum of the differences of shares.",
    )  # fmt: skip
    stop: tuple[str, ...] = Field(
        (), description="Routes that are moved to shadow when they drift: they run, and nothing of them is delivered "
        "until a person restores them.",
    )  # fmt: skip
    stop_on: Literal["any", "outputs"] = Field(
        "any", description="What must drift for that: anything, or what the model says."
    )
    stop_after_looks: int = Field(3, ge=1, le=28, description="On so many days in a row.")
    keep_days: int = Field(400, ge=60, le=36500, description="What is kept with results goes after so many days.")


class DatabaseSettings(Section):
    url: str = Field("", description="SQLAlchemy URL; empty means SQLite inside `node.data_dir`.")
    url_file: SecretFile | None = Field(None, description="File that holds the URL, with its password, instead.")
    password: SecretStr | None = Field(None, description="Password of the user that `url` names.")
    password_file: SecretFile | None = Field(None, description="File that holds that password instead.")

    @field_validator("url")
    @classmethod
    def _url_is_of_a_database_that_a_node_can_use(cls, url: str) -> str:
        if url and not re.match(r"(postgresql|sqlite)(\+[a-z0-9]+)?://", url):
            raise ValueError("it must begin with postgresql+psycopg2:// or sqlite:///")
        try:
            _ = urlsplit(f"//{url.rpartition('@')[2]}").port  # SQLAlchemy takes a password with a slash in it
        except ValueError as error:
            raise ValueError("its port must be a number up to 65535") from error
        return url

    @property
    def full_url(self) -> str:
        """The URL with the password in it; empty means SQLite."""
        if self.password is None:
            return self.url
        scheme, _, rest = self.url.partition("://")
        user, _, place = rest.partition("@")
        return f"{scheme}://{user}:{quote(self.password.get_secret_value(), safe='')}@{place}"

    @model_validator(mode="after")
    def _a_password_has_its_user(self) -> Self:
        user, at, _ = self.url.partition("://")[2].partition("@")
        if self.password is not None and (not at or ":" in user):
            raise refused(
                "password", "url must name a user without a password, as in postgresql+psycopg2://USER@HOST/NAME"
            )
        return self


class InferenceSettings(Section):
    models_dirs: tuple[SitePath, ...] = Field(
        (), description="Further folders of model folders, besides the shipped ones."
    )
    require_activation: Literal["none", "added", "all"] = Field(
        "added",
        description="Whose golden studies must hold on this machine before they run: `added` means all but the models "
        "the node brings along.",
    )
    time_limit_s: Seconds = Field(600, description="Wall-clock limit of one analysis.")
    memory_limit_mb: int = Field(12288, ge=1024, description="Memory limit of each worker process.")
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto",
        description="What models run on: `cpu`, `mps`, `cuda`, `cuda:1`; `auto`: CUDA if there is, else MPS, else CPU.",
    )
    workers: int = Field(0, ge=0, le=64, description="Worker processes; 0: one for each GPU, one without a GPU.")
    batch_studies: int = Field(
        1, ge=1, le=64, description="How many waiting studies of one model of single images may share a network call."
    )
    model_budget_mb: int = Field(
        4096, ge=1, description="RAM or GPU memory that one worker's loaded models may hold together."
    )
    confine: Literal["auto", "require", "off"] = Field(
        "auto",
        description="Whether models run without network and without sight of other files: `auto` as far as this "
        "system can, `require` or not at all, `off` with all rights of the node.",
    )
    max_attempts: int = Field(3, ge=1, le=10, description="Tries before a job is quarantined as FAILED.")
    lease_s: Seconds = Field(60, description="A claim not renewed for this long may be taken by another worker.")


class ReviewSettings(Section):
    second_reader: bool = Field(
        False, description="A decision on a result waits until another person has confirmed it."
    )
    organization: str = Field(
        "", max_length=64, description="Where reviewers work, as verified reports name it; empty: `node.institution`."
    )
    lock_minutes: int = Field(
        10, ge=1, le=240, description="A result is kept for whoever reviews it for this long, and longer when renewed."
    )


class RouteSettings(Section):
    name: str = Field(min_length=1, description="Name shown in timelines.")
    model: str = Field(min_length=1, description="Model folder name; see `dicom-node models list`.")
    destinations: tuple[str, ...] = Field((), description="Destination names; empty means all.")
    when: Annotated[dict[str, Any] | list[dict[str, Any]], BeforeValidator(_conditions)] = Field(
        default_factory=dict, description="Conditions one series must meet; a list means any of its tables."
    )
    rank: tuple[str, ...] = Field((), description="Order of candidate series, best first; empty: the model's own.")
    quiet_period_s: Seconds = Field(30, description="No new image for this long means the study is complete.")
    max_wait_s: Seconds = Field(7200, description="Run at the latest after this, marked PARTIAL if images still come.")
    parameters: dict[str, float] = Field(default_factory=dict, description="Overrides of the model card's parameters.")
    priority: Literal["images", "stat", "high", "routine", "low"] = Field(
        "images", description="Whose job is run first; `images`: as RequestedProcedurePriority says, else `routine`."
    )
    shadow: bool = Field(False, description="Run and compare with `shadow_of`, and deliver nothing.")
    shadow_of: str = Field(
        "", description="Route whose studies this one gets too; `when` and `rank` are that route's unless given here."
    )
