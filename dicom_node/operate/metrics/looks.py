"""What is looked at when metrics are asked for: the rows, disks, processes, certificates, clock and trail.

A database that does not answer costs its own figures and a few seconds, never the others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography import x509
from sqlalchemy import Connection

from dicom_node.config.settings import Settings
from dicom_node.core.audit import Audit
from dicom_node.core.errors import IndexUnavailable
from dicom_node.core.metrics import table
from dicom_node.core.metrics.tally import Count
from dicom_node.index.database import Database, DatabaseProbe
from dicom_node.index.due import now_in
from dicom_node.index.retention.disk import disk_forecast
from dicom_node.index.views.gauges import gauges
from dicom_node.operate.clock import ClockState
from dicom_node.operate.metrics.gpus import GpuMemory, gpu_memory
from dicom_node.sandbox.host import family_bytes, living_processes, resident_bytes

_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class AcceptorState:
    """Whether what comes can be taken, how many objects may wait in the journal and do, and which process listens."""

    is_serving: bool
    journal_slots: int
    journal_waiting: int
    process_id: int


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Whom to ask. `acceptor` is `None` in a process that does not receive, `clock` where no time server is named;
    `is_of_the_file` tells whether the settings that run are those of their file."""

    settings: Callable[[], Settings]
    database: Database
    audit: Audit
    version: str
    models: Callable[[], Sequence[str]]
    roles_at_work: Callable[[], Mapping[str, bool]]
    clock: Callable[[], ClockState | None] = lambda: None
    acceptor: Callable[[], AcceptorState | None] = lambda: None
    is_of_the_file: Callable[[], bool] = lambda: True
    _gpus: Callable[[], Sequence[GpuMemory]] = gpu_memory
    _certificates: dict[Path, tuple[int, float]] = field(default_factory=dict)

    def look(self) -> Iterator[Count]:
        """Yield every gauge that is not counted along the way."""
        yield _one(table.BUILD_INFO, 1, self.version, self.settings().node.ae_title)
        yield from self._of_the_database()
        yield from self._of_receiving()
        yield from self._of_disks()
        yield from self._of_processes()
        yield from self._of_gpus()
        yield from self._of_certificates()
        yield from self._of_the_clock()
        yield _one(table.AUDIT_WRITABLE, not self.audit.fault)
        yield _one(table.SETTINGS_CURRENT, self.is_of_the_file())
        for role, is_at_work in self.roles_at_work().items():
            yield _one(table.ROLE_AT_WORK, is_at_work, role)

    @cached_property
    def _probe(self) -> DatabaseProbe:
        return DatabaseProbe(self.database, _PATIENCE_S)

    def _of_the_database(self) -> Iterator[Count]:
        found: list[Count] = []
        is_up = not self._probe.unavailable_reason()
        if is_up:
            try:
                with self.database.read() as connection:
                    settings = self.settings()
                    names, routes = ([one.name for one in some] for some in (settings.destination, settings.route))
                    found = gauges(connection, now_in(connection), names, self.models(), routes)
                    found += self._when_full(connection)
            except IndexUnavailable:
                is_up = False
        yield _one(table.DATABASE_UP, is_up)
        yield from found
        if self.database.engine.dialect.name == "sqlite":
            file = Path(str(self.database.engine.url.database))
            yield _one(table.DATABASE_SIZE, sum(_size(one) for one in (file, file.with_name(f"{file.name}-wal"))))

    def _when_full(self, connection: Connection) -> Sequence[Count]:
        """Return when the disk of the data will be full, where that can be told."""
        try:
            free_bytes = shutil.disk_usage(self.settings().node.data_dir).free
        except OSError:  # its disk is gone: `intake_open` and `database_up` tell
            return ()
        full_on = disk_forecast(connection, free_bytes, now_in(connection)).full_on
        return () if full_on is None else (_one(table.DISK_FULL, full_on.timestamp()),)

    def _of_receiving(self) -> Iterator[Count]:
        state = self.acceptor()
        if state is not None:
            yield _one(table.INTAKE_OPEN, state.is_serving)
            yield _one(table.JOURNAL_SLOTS, state.journal_slots)
            yield _one(table.JOURNAL_WAITING, state.journal_waiting)

    def _of_disks(self) -> Iterator[Count]:
        node, journal = self.settings().node, self.settings().dicom.journal
        folders = {"data": node.data_dir, "spool": node.data_dir / "spool", "journal": node.data_dir / journal,
                   "models": self.settings().own_models_dir}  # fmt: skip
        for name, folder in folders.items():
            with suppress(OSError):  # not made yet, or its disk is gone: `intake_open` and `database_up` tell
                usage = shutil.disk_usage(folder)
                yield _one(table.DISK_FREE, usage.free, name)
                yield _one(table.DISK_USED, usage.used, name)
        yield _one(table.DISK_RESERVE, node.min_free_mb << 20)

    def _of_processes(self) -> Iterator[Count]:
        held = {"node": resident_bytes(os.getpid())}
        acceptor = self.acceptor()
        if acceptor is not None:
            held["acceptor"] = resident_bytes(acceptor.process_id)
        for process_id, name in living_processes().items():
            held[name] = held.get(name, 0) + family_bytes(process_id)
        for name, size in held.items():
            yield _one(table.PROCESS_MEMORY, size, name)

    def _of_gpus(self) -> Iterator[Count]:
        for gpu in self._gpus():
            yield _one(table.GPU_USED, gpu.used_bytes, gpu.index)
            yield _one(table.GPU_TOTAL, gpu.total_bytes, gpu.index)

    def _of_certificates(self) -> Iterator[Count]:
        for name, file in certificate_files(self.settings()):
            with suppress(OSError, ValueError):  # gone or no PEM: whoever shows it tells
                yield _one(table.CERTIFICATE_EXPIRES, self._end_of(file), name)

    def _end_of(self, file: Path) -> float:
        """Return when a certificate ends, in seconds since 1970; the file is read again when it has changed."""
        changed_ns = file.stat().st_mtime_ns
        known = self._certificates.get(file)
        if known is None or known[0] != changed_ns:
            first = x509.load_pem_x509_certificates(file.read_bytes())[0]  # the node's own goes first
            known = self._certificates[file] = changed_ns, first.not_valid_after_utc.timestamp()
        return known[1]

    def _of_the_clock(self) -> Iterator[Count]:
        state = self.clock()
        if state is None:
            return
        yield _one(table.CLOCK_WELL, not state.fault)
        if state.offset_s is not None:
            yield _one(table.CLOCK_OFFSET, state.offset_s)


def certificate_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the certificates that the node shows, by who shows them: its listeners, and it to each destination."""
    for name, section in (("api", settings.api), ("dicom_tls", settings.dicom_tls), ("hl7", settings.hl7)):
        if section.certificate:
            yield name, section.certificate
    for kind, called in (("destination", settings.destination), ("source", settings.source)):
        for one in called:
            for key in type(one).model_fields:
                file = getattr(one, key)
                if key.endswith("certificate") and isinstance(file, Path):
                    yield f"{kind} {one.name}", file


def _one(metric: table.Metric, value: float, *labels: str) -> Count:
    return Count(metric.name, labels, value)


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
