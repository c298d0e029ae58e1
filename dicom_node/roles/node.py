"""The parts that roles and commands share, built from the settings on first use: index, spool, models, routes.

A database and a data folder belong together: two nodes with folders of their own on one database would take each
other's jobs and find none of the files. A node that has one of them wrongly must not start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dicom_node.config.running import RouteSettings
from dicom_node.config.settings import Settings
from dicom_node.core.entities import Destination, Route
from dicom_node.core.errors import SettingsError
from dicom_node.core.series.predicates import check_conditions
from dicom_node.core.series.routing import OWN_ATTRIBUTES, check_rank
from dicom_node.deliver.kinds import destinations_of
from dicom_node.governance.admission import ModelAdmission, rule_of
from dicom_node.headers.header import ROUTING_KEYWORDS, snake_case
from dicom_node.headers.reader import FileHeaders
from dicom_node.index.database import Database, claim_store_id, store_id
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import survey_models
from dicom_node.ingest.intake import Intake, IntakeLimits
from dicom_node.ingest.session import IngestParts
from dicom_node.ingest.wrapping import PictureWrapper
from dicom_node.receive.events import ReceiveEvents
from dicom_node.receive.process import AcceptorProcess
from dicom_node.receive.start import receiver_id
from dicom_node.retrieve.sink import SinkParts
from dicom_node.storage.folder import make_folder
from dicom_node.storage.owners import Owners
from dicom_node.storage.spool import Spool

_MEGABYTE = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Node:
    """The parts that roles and commands share; `acceptor` serves the DICOM ports since before, where this node does."""

    settings: Settings
    acceptor: AcceptorProcess | None = None

    @cached_property
    def database(self) -> Database:
        """The index, migrated."""
        make_folder(self.settings.node.data_dir)
        database = Database(self.settings.database_url)
        database.migrate()
        return database

    def close(self) -> None:
        """Give back what there ever was: connections to the index, the proof of life. A start may fail before."""
        if "database" in self.__dict__:
            self.database.close()
        self.owners.leave()

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
        """The routes, checked: conditions, ranks and model names are known. Raises `SettingsError`."""
        return tuple(_route(number, self.settings, self.cards) for number in range(len(self.settings.route)))

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

    def destinations_of(self, route: RouteSettings) -> tuple[Destination, ...]:
        """Where a route's results go: those it names, or all; those of a shadow nowhere."""
        if route.shadow:
            return ()
        known = destinations_of(self.settings)
        chosen = [one for one in known if not route.destinations or one.name in route.destinations]
        return tuple(Destination(name=one.name, takes=one.takes) for one in chosen)


def _route(number: int, settings: Settings, cards: Mapping[str, ModelCard]) -> Route:
    route = settings.route[number]
    if route.model not in cards:
        raise SettingsError(
            f"{settings.place_of('route', number, 'model')}: Route {route.name!r} names model {route.model!r}, which "
            f"was not found. Available: {', '.join(sorted(cards)) or 'none'}. Correct the route, or run: dicom-node "
            "models verify"
        )
    shadowed = next((other for other in settings.route if other.name == route.shadow_of), route)
    given = route.when or shadowed.when
    when = tuple(given) if isinstance(given, list) else ((given,) if given else ())
    rank = route.rank or shadowed.rank
    known = {snake_case(keyword) for keyword in ROUTING_KEYWORDS} | OWN_ATTRIBUTES
    with _placed(settings, number, "when"):
        for conditions in when:
            check_conditions(conditions, known)
    with _placed(settings, number, "rank"):
        check_rank(rank, known)
    with _placed(settings, number, "parameters"):
        cards[route.model].effective_parameters(route.parameters)
    return Route(
        name=route.name,
        model=route.model,
        destinations=() if route.shadow else route.destinations or tuple(d.name for d in settings.destination),
        when=when,
        rank=rank,
        quiet_period_s=route.quiet_period_s,
        max_wait_s=route.max_wait_s,
        priority="low" if route.shadow and route.priority == "images" else route.priority,
        shadow_of=route.shadow_of,
    )


@contextmanager
def _placed(settings: Settings, number: int, key: str) -> Iterator[None]:
    """Say of what a key of a route is refused for where it was written."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{settings.place_of('route', number, key)}: route.{number}.{key}: {error}") from error


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
