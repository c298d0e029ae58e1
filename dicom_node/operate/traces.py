"""Traces by OpenTelemetry: what was done for a study goes to a collector by OTLP over HTTP, in the background.

Whoever works puts a span into a queue that drops what is too much; a thread of the library sends it. A collector that
is away or silent costs the traces of its absence, a line in the log, and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import SettingsError
from dicom_node.core.metrics.spans import SPANS, Span

_QUEUE, _BATCH = 4096, 512
_EVERY_MS, _PATIENCE_S, _FAREWELL_S = 2000, 5.0, 3.0
_log = logging.getLogger(__name__)


class Traces:
    """Sends the spans of this process to one collector, until it is closed."""

    def __init__(self, endpoint: str, instance: str, version: str) -> None:
        """Raises `SettingsError` where the library is not installed."""
        try:
            sdk, export = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.trace.export")
            http = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            resources = import_module("opentelemetry.sdk.resources")
        except ImportError as error:
            raise SettingsError(
                "traces.endpoint is set, and the library for traces is not installed. Install the extra traces: "
                "pip install 'dicom-node[traces]', or remove the setting."
            ) from error
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the outage is told once, below
        told = {"service.name": "dicom-node", "service.instance.id": instance, "service.version": version}
        exporter = _told_once(http.OTLPSpanExporter(endpoint=endpoint, timeout=_PATIENCE_S), export)
        self._ids = _Ids()
        self._processor = export.BatchSpanProcessor(
            exporter, max_queue_size=_QUEUE, max_export_batch_size=_BATCH, schedule_delay_millis=_EVERY_MS
        )
        provider = sdk.TracerProvider(
            resource=resources.Resource(told),
            id_generator=self._ids,
            shutdown_on_exit=False,
            sampler=sdk.sampling.ALWAYS_ON,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("dicom_node", version)
        self._turn = threading.Lock()

    def start(self) -> None:
        """Hear of everything from now on."""
        SPANS.listen(self.hear)

    def close(self) -> None:
        """Send what waits, as far as that is possible within seconds."""
        SPANS.listen(None)
        farewell = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        farewell.start()
        farewell.join(_FAREWELL_S)

    def hear(self, span: Span) -> None:
        """Put a span into the queue. Never blocks for long and never raises: nobody's work fails for a trace."""
        try:
            self._put(span)
        except Exception:  # noqa: BLE001 - the border to a library; the work goes on, traced or not
            _log.warning("a span could not be traced", exc_info=True)

    def _put(self, span: Span) -> None:
        trace = import_module("opentelemetry.trace")
        trace_id = _number(span.study_instance_uid, 16)
        context = None
        if span.parent:
            of_parent = trace.SpanContext(
                trace_id, _number(f"{span.study_instance_uid}/{span.parent}", 8), is_remote=True,
                trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
            )  # fmt: skip
            context = trace.set_span_in_context(trace.NonRecordingSpan(of_parent))
        attributes = {**span.attributes, "study": span.study_instance_uid, "requests": list(span.requests)}
        with self._turn:  # the next ids are one span's
            self._ids.trace_id = trace_id
            self._ids.span_id = _number(f"{span.study_instance_uid}/{span.key}", 8)
            one = self._tracer.start_span(span.name, context, start_time=_ns(span.began_s), attributes=attributes)
        if span.is_failure:
            one.set_status(trace.StatusCode.ERROR)
        one.end(_ns(span.ended_s))


class _Ids:
    """Gives the ids that were put here; the library asks for them while a span begins."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        """Say that the ids are not random (W3C Trace Context, level 2)."""
        return False


def _told_once(exporter: Any, export: Any) -> Any:
    """Return an exporter that logs when a collector begins and ends to be away."""
    outage = OutageLog(_log, "traces are not taken", "traces are taken again")

    class TellingExporter(export.SpanExporter):  # type: ignore[misc]
        def export(self, spans: Sequence[Any]) -> Any:
            result = export.SpanExportResult.FAILURE
            with suppress(Exception):  # the library's thread must go on; it is told below like any other failure
                result = exporter.export(spans)
            if result is export.SpanExportResult.SUCCESS:
                outage.worked()
            else:
                outage.failed("The collector does not answer, or refuses; check traces.endpoint.", {})
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return TellingExporter()


def _number(text: str, size: int) -> int:
    """Return an id of so many bytes that follows from a text; 0 is none."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
