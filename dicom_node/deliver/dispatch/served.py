"""Who delivers to which destination, and proves that it is there; the destinations may change while they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dicom_node.config.settings import Settings
from dicom_node.core.metrics.table import DESTINATION_UP
from dicom_node.core.metrics.tally import TALLY
from dicom_node.deliver.dispatch.outbox import DestinationWorker, OutboxPolicy
from dicom_node.deliver.dispatch.proof import Prover
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import DestinationKind
from dicom_node.deliver.outgoing import EventSender, Sender
from dicom_node.index.database import Database
from dicom_node.storage.spool import Spool


@dataclass(frozen=True, slots=True)
class Equipment:
    """What delivers to one destination. `make_prover` returns `None` where nothing is to be proved, or can be."""

    destination: DestinationKind
    make_sender: Callable[[], Sender | EventSender]
    policy: OutboxPolicy
    make_prover: Callable[[], Prover | None]


class ServedDestinations:
    """One worker for each destination, and one who proves. To be changed by one thread at a time."""

    def __init__(
        self, database: Database, spool: Spool, equipment: Callable[[Settings, DestinationKind], Equipment]
    ) -> None:
        self._database = database
        self._spool = spool
        self._equipment = equipment
        self._served: dict[str, Equipment] | None = None
        self._workers: dict[str, DestinationWorker] = {}
        self._provers: dict[str, Prover] = {}
        #: Those of destinations that are gone; they end what is on its way.
        self._parting: dict[str, list[DestinationWorker | Prover]] = {}

    def prepared(self, settings: Settings) -> Callable[[], None]:
        """Return what serves the destinations of these settings, each as it is there, and no others.

        Raises `SettingsError` where one cannot be served.
        """
        wanted = {one.name: self._equipment(settings, one) for one in destinations_of(settings)}
        return partial(self._serve, wanted)

    def stop(self) -> None:
        """End after the objects that are on their way; what is left stays owed."""
        for one in self._threads():
            one.stop()

    def join(self, timeout_s: float) -> None:
        """Wait until all have ended."""
        for one in self._threads():
            one.join(timeout_s)

    def wake(self) -> None:
        """Look now what is owed."""
        for worker in list(self._workers.values()):
            worker.wake()

    def _threads(self) -> Sequence[DestinationWorker | Prover]:
        parting = [one for threads in self._parting.values() for one in threads]
        return [*self._workers.values(), *self._provers.values(), *parting]

    def _serve(self, wanted: dict[str, Equipment]) -> None:
        served = self._served or {}
        for name in [name for name in served if name not in wanted]:
            self._part_with(name)
        for name, one in wanted.items():
            known = served.get(name)
            if known is None:
                self._begin(one, is_start=self._served is None)
            else:
                self._renew(one, is_another=known.destination != one.destination)
        self._served = wanted

    def _renew(self, one: Equipment, *, is_another: bool) -> None:
        self._workers[one.destination.name].renew(one.make_sender, one.policy, is_another=is_another)
        if is_another:
            self._end_proving(one.destination.name)
            self._begin_proving(one)

    def _begin(self, one: Equipment, *, is_start: bool) -> None:
        name = one.destination.name
        worker = DestinationWorker(name, one.make_sender, self._database, self._spool, one.policy)
        self._workers[name] = worker
        if not is_start:  # what waited for one of this name, long ago, goes at once
            worker.renew(one.make_sender, one.policy, is_another=True)
        # One that was gone and is back: its last object may still be on its way.
        worker.start(after=[one for one in self._parting.get(name, []) if isinstance(one, DestinationWorker)])
        self._begin_proving(one)

    def _begin_proving(self, one: Equipment) -> None:
        prover = one.make_prover()
        if prover is not None:
            self._provers[one.destination.name] = prover
            prover.start()

    def _part_with(self, name: str) -> None:
        worker = self._workers.pop(name)
        worker.stop()
        TALLY.forget(DESTINATION_UP, destination=name)
        self._parting[name] = [*(one for one in self._parting.get(name, []) if one.is_working), worker]
        self._end_proving(name)

    def _end_proving(self, name: str) -> None:
        prover = self._provers.pop(name, None)
        if prover is not None:
            prover.stop()
            self._parting.setdefault(name, []).append(prover)
