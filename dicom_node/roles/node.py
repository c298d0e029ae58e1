"""The parts that roles and commands share, built from the settings on first use: index, spool, models, routes.

A database and a data folder belong together: two nodes with folders of their own on one database would take each
other's jobs and find none of the files. A node that has one of them wrongly must not start.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dicom_node import __version__
from dicom_node.config.running import RouteSettings
from dicom_node.config.settings import Settings
from dicom_node.core.assessment.concordance import ConcordanceVerdict
from dicom_node.core.entities import Destination, Route
from dicom_node.core.errors import SettingsError
from dicom_node.core.metrics.table import (
    ATTEMPTS_FAILED,
    CONCORDANCE,
    DATABASE_FAILURES,
    DELIVERIES,
    DELIVERY_OUTCOMES,
    REPORT_OUTCOMES,
    REPORT_SEARCH_OUTCOMES,
    REPORT_SEARCHES,
    REPORTS_READ,
    RUN_OUTCOMES,
    RUNS,
)
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.search_key import SearchKeys
from dicom_node.deidentification.pseudonyms import read_or_make_key
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.owed_to_nobody import advice_for, owed_to_nobody
from dicom_node.governance.admission import ModelAdmission, rule_of
from dicom_node.headers.reader import FileHeaders
from dicom_node.index.database import Database, claim_store_id, store_id
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import survey_models
from dicom_node.ingest.intake import Intake, IntakeLimits
from dicom_node.ingest.session import IngestParts
from dicom_node.ingest.wrapping import PictureWrapper
from dicom_node.logs import set_log_level
from dicom_node.operate.clock import ClockWatch
from dicom_node.operate.configuration.reload import Configuration, ConfigurationParts, PreparedChange
from dicom_node.operate.metrics.exposition import Exposition
from dicom_node.operate.metrics.looks import AcceptorState, Looks
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.operate.rules import routes_of
from dicom_node.people.audit.trail import AuditTrail, LoggedAudit, open_audit
from dicom_node.receive.events import ReceiveEvents
from dicom_node.receive.process import AcceptorProcess
from dicom_node.receive.start import receiver_id
from dicom_node.retrieve.sink import SinkParts
from dicom_node.roles import ROLES
from dicom_node.roles.readiness import roles_not_at_work
from dicom_node.roles.settings import load_settings
from dicom_node.storage.folder import make_folder
from dicom_node.storage.owners import Owners
from dicom_node.storage.spool import Spool

_MEGABYTE = 1 << 20
_log = logging.getLogger(__name__)


@dataclass
class Node:
    """The parts that roles and commands share; `acceptor` serves the DICOM ports since before, where this node does.

    `settings` are those that run: others take their place while it does (`configuration`), so nobody keeps of them what
    is live (`config.changes.LIVE`). `config_file` is what they were read from, `None`: defaults and variables alone.
    """

    settings: Settings
    acceptor: AcceptorProcess | None = None
    config_file: Path | None = None

    @cached_property
    def database(self) -> Database:
        """The index, migrated."""
        make_folder(self.settings.node.data_dir)
        database = Database(self.settings.database_url)
        database.migrate()
        return database

    def close(self) -> None:
        """Give back what there ever was: connections to the index, the proof of life. A start may fail before."""
        if "audit" in self.__dict__:
            self.audit.close()
        if "database" in self.__dict__:
            self.database.close()
        self.owners.leave()

    @cached_property
    def audit(self) -> AuditTrail | LoggedAudit:
        """Where acts are written down."""
        return open_audit(self.settings, self.database)

    @cached_property
    def clock(self) -> ClockWatch:
        """Whether the clock of this machine is to be believed."""
        return ClockWatch(self.settings.time)

    @cached_property
    def metrics(self) -> Exposition:
        """What this process can tell of the node in figures."""
        self._count_what_is_configured()
        looks = Looks(
            settings=lambda: self.settings, database=self.database, audit=self.audit, version=__version__,
            models=self._models, roles_at_work=self._roles_at_work, clock=self.clock.state,
            acceptor=self._acceptor_state, is_of_the_file=lambda: self.configuration.state.is_of_the_file,
        )  # fmt: skip
        return Exposition(looks.look)

    def _models(self) -> Sequence[str]:
        return sorted({route.model for route in self.routes})

    def _count_what_is_configured(self) -> None:
        models, destinations = self._models(), [one.name for one in self.settings.destination]
        TALLY.allow("peer", {one.ae_title for one in self.settings.peer})
        TALLY.allow("destination", destinations)
        TALLY.allow("model", models)
        _begin_at_nothing(models, destinations)

    def _roles_at_work(self) -> Mapping[str, bool]:
        missing = roles_not_at_work(self.owners)
        return {role: role not in missing for role in ROLES}

    def _acceptor_state(self) -> AcceptorState | None:
        one = self.acceptor
        if one is None:
            return None
        return AcceptorState(one.is_serving, one.journal_slots, self.received.backlog(), one.process_id)

    @cached_property
    def search_keys(self) -> SearchKeys:
        """What studies are found by; the secret is made at the first start. Raises `SettingsError`."""
        return SearchKeys(read_or_make_key(self.settings.node.data_dir / "search-key"))

    @cached_property
    def spool(self) -> Spool:
        """The object store."""
        return Spool(self.settings.node.data_dir / "spool")

    @cached_property
    def cards(self) -> Mapping[str, ModelCard]:
        """Every model that can be found."""
        survey = survey_models(self.settings.models_dirs)
        for folder, problem in survey.problems.items():
            _log.error("model folder passed over", extra={"folder": str(folder), "why": problem})
        return survey.cards

    @cached_property
    def admission(self) -> ModelAdmission:
        """Who may run."""
        return ModelAdmission(self.database, rule_of(self.settings.inference))

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """The routes of the settings, checked: conditions, ranks and model names are known. Raises `SettingsError`."""
        return routes_of(self.settings, self.cards)

    @cached_property
    def in_force(self) -> RoutesInForce:
        """The routes as they are at any moment: those above with what people have written over them."""
        return RoutesInForce(self.settings, self.cards, self.database)

    @cached_property
    def configuration(self) -> Configuration:
        """The settings of this process, and how they change while it runs. Raises `SettingsError`."""
        parts = ConfigurationParts(
            file=self.config_file, load=load_settings, key=self.search_keys.secret, owners=self.owners, audit=self.audit
        )
        configuration = Configuration(self.settings, parts)
        configuration.attend(self._prepared)
        return configuration

    def _prepared(self, wanted: Settings) -> PreparedChange:
        """The routes can be used, and so can the edits that people made of them, as after a restart."""
        routes, in_force = routes_of(wanted, self.cards), self.in_force.prepared(wanted)
        with self.database.read() as connection:
            owed = owed_to_nobody(connection, wanted)
        waiting = [
            f"Destination {name} is not configured, and {waits.in_words} wait for it. {advice_for(name, waits)}."
            for name, waits in owed.items()
        ]

        def begin() -> None:
            self.settings = wanted
            self.__dict__["routes"] = routes
            in_force.begin()
            self._count_what_is_configured()
            set_log_level(wanted.node.log_level)

        return PreparedChange(begin, (*waiting, *in_force.warnings))

    @cached_property
    def owners(self) -> Owners:
        """The processes that live on the data folder."""
        return Owners(self.settings.node.data_dir / "owners")

    @property
    def identity(self) -> str:
        """Who claims a lease: this start of this process, and never another."""
        return self.owners.me.identity

    @cached_property
    def receiver_id(self) -> str:
        """Stays the same over restarts of this receiver, so that it can tidy up after itself."""
        return receiver_id(self.settings)

    @cached_property
    def intake(self) -> Intake:
        """The way from received bytes to the answer."""
        return self.intake_as(self.receiver_id)

    def intake_as(self, receiver_id: str) -> Intake:
        """Return a way in whose associations are noted as this receiver's, to be renewed and tidied up apart."""
        limits = IntakeLimits(
            min_free_bytes=self.settings.node.min_free_mb * _MEGABYTE,
            max_object_bytes=self.settings.dicom.max_object_mb * _MEGABYTE,
        )
        return Intake(self.database, self.spool, limits, receiver_id)

    @cached_property
    def received(self) -> ReceiveEvents:
        """What the acceptor has told and nobody has dealt with; empty in a node that does not receive."""
        return ReceiveEvents()

    def open_ingest(self, receiver_id: str) -> IngestParts:
        """Return the way in for files; associations are noted as this receiver's."""
        return IngestParts(
            intake=self.intake_as(receiver_id),
            database=self.database,
            spool=self.spool,
            headers=FileHeaders(),
            pictures=PictureWrapper(),
            called_ae_title=self.settings.node.ae_title,
            max_object_bytes=self.settings.dicom.max_object_mb * _MEGABYTE,
            accept_any_sop_class=self.settings.dicom.accept_any_sop_class,
        )

    def sink_parts(self, receiver_id: str) -> SinkParts:
        """Return the way in for what is retrieved; associations are noted as this receiver's."""
        return SinkParts(self.intake_as(receiver_id), self.database, self.settings.dicom.max_object_mb * _MEGABYTE)

    @property
    def work_dir(self) -> Path:
        """Where jobs of this process lay their files while they run; beside it lie those of others."""
        return self.settings.node.data_dir / "work" / self.owners.me.token


def destinations_of_route(settings: Settings, route: RouteSettings) -> tuple[Destination, ...]:
    """Return where a route's results go: those it names, or all; those of a shadow nowhere."""
    if route.shadow:
        return ()
    known = destinations_of(settings)
    chosen = [one for one in known if not route.destinations or one.name in route.destinations]
    return tuple(Destination(name=one.name, takes=one.takes) for one in chosen)


def _begin_at_nothing(models: Sequence[str], destinations: Sequence[str]) -> None:
    """Let what is to be watched be there before it first happens: a count that begins with 1 has not grown."""
    for destination in destinations:
        for outcome in DELIVERY_OUTCOMES:
            TALLY.count(DELIVERIES, 0, destination=destination, outcome=outcome)
    for model in models:
        TALLY.count(ATTEMPTS_FAILED, 0, model=model)
        for outcome in RUN_OUTCOMES:
            TALLY.count(RUNS, 0, model=model, outcome=outcome, reason="")
        for verdict in ConcordanceVerdict:
            TALLY.count(CONCORDANCE, 0, model=model, verdict=verdict)
    for outcome in REPORT_OUTCOMES:
        TALLY.count(REPORTS_READ, 0, outcome=outcome)
    for outcome in REPORT_SEARCH_OUTCOMES:
        TALLY.count(REPORT_SEARCHES, 0, outcome=outcome)
    TALLY.count(DATABASE_FAILURES, 0)


def require_own_store(database: Database, spool: Spool) -> None:
    """Return when database and store carry one name, which the first start gives them.

    The store is named first: a database that has a name was given it by a store that has it, too. Raises
    `IndexUnavailable`, and `SettingsError` for a database of another store.
    """
    with database.read() as connection:
        known = store_id(connection)
    ours = spool.name() if known is None else spool.known_name()
    if known is None and ours is not None:
        with database.write() as connection:
            known = claim_store_id(connection, ours)
    if ours != known:
        raise SettingsError(_refusal(spool.folder, str(known)))


def _refusal(folder: Path, known: str) -> str:
    return (
        f"The database belongs to another data folder than the one with {folder}. Correct node.data_dir or "
        "database.url: processes of one node share both, and every other node has its own. If the other folder is lost "
        f"for good, and its images with it, write {known} into {folder / Spool.NAME_FILE}."
    )
