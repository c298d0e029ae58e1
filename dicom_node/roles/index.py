"""The role `index`: notices that a study is complete, and queues the analyses its routes want."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dicom_node.headers.demographics import DemographicsReader
from dicom_node.jobs.sweeps import CompletenessSweep
from dicom_node.jobs.worklist import WorklistSweep
from dicom_node.operate.scrub import Scrub
from dicom_node.people.audit.care import ReceivedStudies
from dicom_node.roles.node import Node
from dicom_node.roles.role import Role, Sweep

_COMPLETENESS_EVERY_S = 1.0
_SCRUB_EVERY_S = 10.0
_RECEIVED_EVERY_S = 2.0
_WORKLIST_EVERY_S = 1.0


class IndexRole(Role):
    """Has little of its own but sweeps: the truth is in the database."""

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        super().__init__(node, wake_all)
        self._demographics = DemographicsReader()

    def start(self) -> Mapping[str, int]:
        """Do nothing; the clock does."""
        return {}

    def join(self) -> None:
        """End the process that reads headers, which starts only for studies of before numbers were kept."""
        self._demographics.close()

    def sweeps(self) -> Sequence[Sweep]:
        """Look for studies that are complete, for kept objects that are damaged, and for what has been received."""
        node = self._node
        scrub = Scrub(node.database, node.spool, node.settings.node.scrub_mb_s)
        worklist = WorklistSweep(
            node.database, node.search_keys, node.settings.hl7.patient_authority, node.spool.path,
            self._demographics.read,
        )  # fmt: skip
        return (
            Sweep("completeness", self._sweep, _COMPLETENESS_EVERY_S),
            Sweep("scrub", scrub.run, _SCRUB_EVERY_S),
            Sweep("received", ReceivedStudies(node.database, node.audit).run, _RECEIVED_EVERY_S),
            Sweep("worklist", worklist.run, _WORKLIST_EVERY_S),
        )

    def _sweep(self) -> None:
        """Look for studies that are complete, by the routes as they are now."""
        node = self._node
        routes, unsettled = node.in_force.now().routes, node.received.unsettled_studies
        CompletenessSweep(node.database, routes, node.cards, self._wake_all, unsettled).run()
