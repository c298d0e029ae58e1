"""The role `index`: notices that a study is complete, and queues the analyses its routes want."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from dicom_node.assist.reports.reading import ReadingOptions, ReportSweep, TextReader
from dicom_node.config.settings import Settings
from dicom_node.headers.demographics import DemographicsReader
from dicom_node.index.due import now_in
from dicom_node.index.retention.disk import keep_sample
from dicom_node.jobs.sweeps import CompletenessSweep
from dicom_node.jobs.worklist import WorklistSweep
from dicom_node.operate.alarms.judges import AlarmSources
from dicom_node.operate.alarms.round import AlarmRound
from dicom_node.operate.drift.looks import DriftLooks
from dicom_node.operate.retention.orphans import remove_orphans
from dicom_node.operate.retention.rules import Retention, limits_of
from dicom_node.operate.scrub import Scrub
from dicom_node.people.audit.care import ReceivedStudies
from dicom_node.roles.node import Node
from dicom_node.roles.role import Role, Sweep

_COMPLETENESS_EVERY_S = 1.0
_SCRUB_EVERY_S = 10.0
_RECEIVED_EVERY_S = 2.0
_WORKLIST_EVERY_S = 1.0
_RETENTION_EVERY_S = 60.0
_REPORTS_EVERY_S = 5.0
_DRIFT_EVERY_S = 600.0
_DISK_EVERY_S, _ORPHANS_EVERY_S = 3600.0, 86400.0


class IndexRole(Role):
    """Has little of its own but sweeps: the truth is in the database."""

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        super().__init__(node, wake_all)
        self._demographics = DemographicsReader()
        self._texts = TextReader(node.settings.reports.languages)
        self._retention = Retention(node.database, node.spool, node.audit, limits_of(node.settings.retention))

    def start(self) -> Mapping[str, int]:
        """Do nothing; the clock does."""
        return {}

    def stop(self) -> None:
        """End a deletion after the files that are going; the next start goes on."""
        self._retention.stop()

    def join(self) -> None:
        """End the processes that read headers, which start only for studies of before numbers were kept, and texts."""
        self._demographics.close()
        self._texts.close()

    def sweeps(self) -> Sequence[Sweep]:
        """Look for studies that are complete, for kept objects that are damaged, for what has been received, and for
        what people are to be told of."""
        node = self._node
        sources = AlarmSources(settings=node.settings, audit=node.audit, clock=node.clock.state)
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
            Sweep(
                "reports", ReportSweep(node.database, self._texts.read, _reading(node.settings)).run, _REPORTS_EVERY_S
            ),
            Sweep("retention", self._retention.run, _RETENTION_EVERY_S),
            Sweep("drift", DriftLooks(node.database, node.settings.drift, node.audit).run, _DRIFT_EVERY_S),
            Sweep("disk", self._look_at_disk, _DISK_EVERY_S),
            Sweep("alarms", AlarmRound(node.database, sources).run, node.settings.alarms.every_s),
            Sweep("orphans", partial(remove_orphans, node.database, node.spool), _ORPHANS_EVERY_S),
        )

    def _look_at_disk(self) -> None:
        """Note how full the disk is, of which the forecast is made."""
        usage = shutil.disk_usage(self._node.settings.node.data_dir)
        with self._node.database.write() as connection:
            keep_sample(connection, usage.used, usage.total, now_in(connection))

    def _sweep(self) -> None:
        """Look for studies that are complete, by the routes as they are now."""
        node = self._node
        routes, unsettled = node.in_force.now().routes, node.received.unsettled_studies
        CompletenessSweep(node.database, routes, node.cards, self._wake_all, unsettled).run()


def _reading(settings: Settings) -> ReadingOptions:
    own = settings.reports
    return ReadingOptions(
        patient_authority=settings.hl7.patient_authority, languages=own.languages, keep_text_days=own.keep_text_days,
        unmatched_days=own.unmatched_days,
    )  # fmt: skip
