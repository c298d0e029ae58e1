"""The settings of a node: every section, with a default for everything, and the rules between sections.

What kinds of destination and source there are is known further out, where they are sent to and fetched from:
`roles.settings` narrows these two lists and reads the settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr, model_validator

from dicom_node.config.alarms import AlarmSettings, AlarmsSettings, CriticalFindingSettings, SelfTestSettings
from dicom_node.config.incoming import (
    AeSettings,
    ApiSettings,
    DicomSettings,
    DicomTlsSettings,
    Hl7Settings,
    MetricsSettings,
    Peer,
    PeopleSettings,
    SourceSettings,
    StowSettings,
    TracesSettings,
    UploadSettings,
    User,
    ViewerSettings,
    WatchSettings,
)
from dicom_node.config.openid import OidcSettings
from dicom_node.config.outgoing import (
    DeidentificationSettings,
    DeliverySettings,
    DestinationSettings,
    FhirSettings,
    ResultSettings,
)
from dicom_node.config.peers import DicomPeer
from dicom_node.config.running import (
    AuditSettings,
    DatabaseSettings,
    DriftSettings,
    InferenceSettings,
    NodeSettings,
    ReportSettings,
    RetentionSettings,
    ReviewSettings,
    RouteSettings,
    TimeSettings,
)
from dicom_node.config.section import Origin, Section
from dicom_node.core.calls.limits import is_loopback


class Settings(Section):
    """The whole configuration."""

    node: NodeSettings = NodeSettings()
    dicom: DicomSettings = DicomSettings()
    dicom_tls: DicomTlsSettings = DicomTlsSettings()
    database: DatabaseSettings = DatabaseSettings()
    hl7: Hl7Settings = Hl7Settings()
    audit: AuditSettings = AuditSettings()
    time: TimeSettings = TimeSettings()
    retention: RetentionSettings = RetentionSettings()
    reports: ReportSettings = ReportSettings()
    alarms: AlarmsSettings = AlarmsSettings()
    selftest: SelfTestSettings = SelfTestSettings()
    drift: DriftSettings = DriftSettings()
    api: ApiSettings = ApiSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()
    oidc: OidcSettings = OidcSettings()
    people: PeopleSettings = PeopleSettings()
    review: ReviewSettings = ReviewSettings()
    viewer: ViewerSettings = ViewerSettings()
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
    deidentification: tuple[DeidentificationSettings, ...] = ()
    alarm: tuple[AlarmSettings, ...] = ()
    critical_finding: tuple[CriticalFindingSettings, ...] = ()
    _remarks: tuple[str, ...] = PrivateAttr(())
    _origin: Origin = PrivateAttr(Origin(Path()))

    def model_post_init(self, context: Any) -> None:
        """Keep what was remarked on while the values were read."""
        if isinstance(context, Origin):
            self._remarks = tuple(context.remarks)
            self._origin = context

    def place_of(self, *path: str | int) -> str:
        """Return where a value was written, ``node.toml:17``; path as in ``"route", 0, "when"``."""
        return self._origin.place_of(path)

    @property
    def viewer_url(self) -> str | None:
        """The template of a study's address in the node's own viewer; `None` where none is served, or nobody knows by
        which address browsers reach it."""
        public_url = self.viewer.public_url or self.oidc.public_url
        if self.viewer.ohif is None or not public_url:
            return None
        return f"{public_url}/viewer?StudyInstanceUIDs={{study_instance_uid}}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the operator should be told of settings that can be used all the same."""
        return self._remarks

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        known = [d.name for d in self.destination]
        sources = [s.name for s in self.source]
        routes, profiles = [r.name for r in self.route], [p.name for p in self.deidentification]
        named = (
            (known, "destination"), (sources, "source"), (routes, "route"), (profiles, "deidentification profile"),
            ([one.name for one in self.alarm], "alarm"),
        )  # fmt: skip
        for names, what in named:
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
        for one in self.critical_finding:
            if one.route and one.route not in routes:
                raise ValueError(
                    f"critical_finding {one.finding!r} names route {one.route!r}, which is not configured; "
                    f"known: {', '.join(routes) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _audit_goes_to_a_destination(self) -> Self:
        wanted = self.audit.fhir
        if wanted and wanted not in {one.name for one in self.destination if getattr(one, "kind", "") == "fhir"}:
            raise ValueError(f"audit.fhir names {wanted!r}, which is no configured destination of kind fhir")
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
    def _room_is_made_before_images_are_refused(self) -> Self:
        wanted, reserve = self.retention.keep_free_mb, self.node.min_free_mb
        if wanted and wanted <= reserve:
            raise ValueError(
                f"retention.keep_free_mb = {wanted} must be larger than node.min_free_mb = {reserve}: below the latter "
                "images are refused, and room is to be made before that"
            )
        return self

    @model_validator(mode="after")
    def _the_node_can_call_itself(self) -> Self:
        if self.selftest.at and (not self.dicom.plain or self.user):
            raise ValueError(
                "selftest.at needs dicom.plain = true and no [[user]]: the node calls itself without TLS and user"
            )
        return self

    @model_validator(mode="after")
    def _beyond_loopback_needs_a_list_of_peers(self) -> Self:
        hosts = [self.dicom.host, *([self.dicom_tls.host or self.dicom.host] if self.dicom_tls.certificate else [])]
        if not all(map(is_loopback, hosts)) and not self.peer:
            raise ValueError(
                f"dicom.host {' / '.join(hosts)} is reachable from other machines but no [[peer]] is configured; "
                "list who may send (ae_title and host), or bind 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _beyond_loopback_needs_a_list_of_senders(self) -> Self:
        if self.hl7.port is not None and not is_loopback(self.hl7.host) and not self.hl7.peer:
            raise ValueError(
                f"hl7.host {self.hl7.host} is reachable from other machines but no [[hl7.peer]] is configured; "
                "list who may send (host), or bind 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _reports_come_from_somewhere_that_is_there(self) -> Self:
        if self.reports.hl7 and self.hl7.port is None:
            raise ValueError("reports.hl7 = true needs the HL7 listener: set hl7.port, or leave reports.hl7 out")
        known = [one.name for one in self.destination if one.kind == "fhir"]
        if self.reports.fhir and self.reports.fhir not in known:
            raise ValueError(
                f"reports.fhir = {self.reports.fhir!r} is no destination of kind fhir; name one of them: "
                f"{', '.join(known) or 'there is none'}"
            )
        return self

    @model_validator(mode="after")
    def _beyond_loopback_needs_a_list_of_who_may_measure(self) -> Self:
        if self.metrics.port is not None and not is_loopback(self.metrics.host) and not self.metrics.allow:
            raise ValueError(
                f"metrics.host {self.metrics.host} is reachable from other machines but metrics.allow names nobody; "
                "list who may ask (addresses or networks), or bind 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _any_name_needs_an_authority_of_ones_own(self) -> Self:
        """Else every certificate that the system trusts, the whole web's, would do."""
        if self.dicom_tls.ca:
            return self
        called: list[tuple[str, Section]] = [(one.name, one) for one in self.destination]
        called += [(one.name, one) for one in self.source]
        for name, one in called:
            if isinstance(one, DicomPeer) and one.tls_server_name == "*" and not one.tls_ca:
                raise ValueError(f'{name!r}: tls_server_name = "*" needs tls_ca (or dicom_tls.ca)')
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
        return self.database.full_url or f"sqlite:///{self.node.data_dir.resolve() / 'node.sqlite'}"
