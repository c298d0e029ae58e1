"""The role `index`: notices that a study is complete, and queues the analyses its routes want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dicom_node.jobs.sweeps import CompletenessSweep
from dicom_node.operate.scrub import Scrub
from dicom_node.roles.role import Role, Sweep

_COMPLETENESS_EVERY_S = 1.0
_SCRUB_EVERY_S = 10.0


class IndexRole(Role):
    """Has nothing of its own but sweeps: the truth is in the database."""

    def start(self) -> Mapping[str, int]:
        """Do nothing; the clock does."""
        return {}

    def sweeps(self) -> Sequence[Sweep]:
        """Look for studies that are complete, and for kept objects that are damaged."""
        node = self._node
        completeness = CompletenessSweep(
            node.database, node.routes, node.cards, self._wake_all, node.received.unsettled_studies
        )
        scrub = Scrub(node.database, node.spool, node.settings.node.scrub_mb_s)
        return (
            Sweep("completeness", completeness.run, _COMPLETENESS_EVERY_S),
            Sweep("scrub", scrub.run, _SCRUB_EVERY_S),
        )
