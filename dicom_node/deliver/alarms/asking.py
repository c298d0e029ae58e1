"""Asks every destination now and then whether it is there, also while nothing is owed to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom_node.core.alarms.rules import PEER_UNREACHABLE
from dicom_node.core.errors import DeliveryError
from dicom_node.deliver.kinds.kind import Caller, DestinationKind
from dicom_node.index.alarms.signs import note_sign, signs_of
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.outbox.destinations import suspensions


@dataclass(slots=True)
class DestinationsAsked:
    """Notes which destinations do not answer. To be run every few minutes."""

    destinations: Sequence[DestinationKind]
    caller: Caller
    database: Database
    _has_begun: bool = field(default=False, init=False)

    def run(self) -> None:
        """Ask them all; not at the start of the node, when whatever it stands on may be starting, too."""
        if self._has_begun:
            self.ask()
        self._has_begun = True

    def ask(self) -> None:
        """Ask all that are not suspended, one after the other."""
        with self.database.read() as connection:
            suspended, noted = suspensions(connection), signs_of(connection, PEER_UNREACHABLE.code)
        for one in self.destinations:
            fault = "" if one.name in suspended else self._fault_of(one)
            if fault or one.name in noted:
                with self.database.write() as connection:
                    note_sign(connection, PEER_UNREACHABLE.code, one.name, fault, now_in(connection))

    def _fault_of(self, destination: DestinationKind) -> str:
        try:
            destination.reach(self.caller)
        except DeliveryError as error:
            return str(error)
        return ""
