"""Every metric of the node: its name, its kind, its labels, and what it says. The reference is written from this table.

A label takes few values: models, destinations and peers of the settings, states and codes of the program. Nothing of a
patient, a study or an object ever is one (`tally.Tally` sees to that).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """What may become of a value: a counter only grows, a gauge goes up and down, a histogram sorts by size."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricSource(StrEnum):
    """Where a value is from, which says what a restart does to it."""

    #: Right at any moment, and after any restart; every process of the node tells the same.
    DATABASE = "database"
    #: Counted since the start of the process that does the work.
    PROCESS = "process"
    #: Looked at when it is asked for, by the process that is asked.
    NOW = "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric; `buckets` are the upper bounds of a histogram, in its unit."""

    name: str
    kind: MetricKind
    source: MetricSource
    labels: tuple[str, ...] = ()
    help: str
    buckets: tuple[float, ...] = ()


#: From a tenth of a second to two hours; what somebody waits for; and from a tenth of a millisecond to the database's
#: own limit.
_STAGE_BOUNDS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_ANSWER_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_DATABASE_BOUNDS_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


def _counter(name: str, labels: Sequence[str], text: str) -> Metric:
    return Metric(name=f"dicom_node_{name}", kind=MetricKind.COUNTER, source=MetricSource.PROCESS,
                  labels=tuple(labels), help=text)  # fmt: skip


def _gauge(name: str, source: MetricSource, labels: Sequence[str], text: str) -> Metric:
    return Metric(name=f"dicom_node_{name}", kind=MetricKind.GAUGE, source=source, labels=tuple(labels), help=text)


def _histogram(name: str, labels: Sequence[str], text: str, buckets: tuple[float, ...] = _STAGE_BOUNDS_S) -> Metric:
    return Metric(name=f"dicom_node_{name}", kind=MetricKind.HISTOGRAM, source=MetricSource.PROCESS,
                  labels=tuple(labels), help=text, buckets=buckets)  # fmt: skip


# --- receiving -----------------------------------------------------------------------------------------------------

ASSOCIATIONS = _counter(
    "associations_total", ("peer", "outcome"), "DICOM associations that were served, when they ended, by how they did."
)
ASSOCIATIONS_REFUSED = _counter(
    "associations_refused_total", ("peer", "reason"), "Connections and associations that were not served, by reason."
)
ASSOCIATIONS_OPEN = _gauge("associations_open", MetricSource.PROCESS, (), "DICOM associations that are served now.")
OBJECTS_RECEIVED = _counter(
    "objects_received_total", ("peer", "way"),
    "Objects taken in and filed; `way` is dicom, or files: by the web, as files, fetched.",
)  # fmt: skip
BYTES_RECEIVED = _counter("received_bytes_total", ("peer", "way"), "Bytes of the objects taken in and filed.")
OBJECTS_REFUSED = _counter(
    "objects_refused_total", ("peer", "status"), "Objects and requests answered with a failure, by DIMSE status."
)
INTAKE_OPEN = _gauge(
    "intake_open", MetricSource.NOW, (), "1 when the DICOM ports are served and what comes can be written and filed."
)
HL7_MESSAGES = _counter(
    "hl7_messages_total", ("message", "outcome"), "HL7 v2 messages that came, by their type, and what became of them: "
    "taken, repeated, refused, put_off.",
)  # fmt: skip
JOURNAL_SLOTS = _gauge("journal_slots", MetricSource.NOW, (), "Slots of the journal: objects that may wait in it.")
JOURNAL_WAITING = _gauge("journal_waiting", MetricSource.NOW, (), "Acknowledged objects that are not filed yet.")

# --- studies and analyses ------------------------------------------------------------------------------------------

STUDIES = _gauge("studies", MetricSource.DATABASE, ("state",), "Studies by state.")
STUDY_OLDEST = _gauge(
    "study_receiving_oldest_seconds", MetricSource.DATABASE, (), "Age of the study that has been RECEIVING for longest."
)
STUDY_SECONDS = _histogram(
    "study_seconds", ("stage",), "Of a study, from its first to its last image (receive), and from there until it was "
    "complete (quiet).",
)  # fmt: skip
JOBS = _gauge("jobs", MetricSource.DATABASE, ("state",), "Analyses by state.")
JOBS_OPEN = _gauge("jobs_open", MetricSource.DATABASE, ("model", "state"), "Analyses that wait or run, by model.")
JOB_OLDEST = _gauge(
    "job_queue_oldest_seconds", MetricSource.DATABASE, ("model",), "For how long the first of the queue has been due."
)
RUNS = _counter(
    "runs_total", ("model", "outcome", "reason"), "Analyses that ended: result, partial, not_analysed by its reason, "
    "failed, or unchanged: answered before.",
)  # fmt: skip
RUN_OUTCOMES = ("result", "partial", "not_analysed", "failed", "unchanged")
ATTEMPTS_FAILED = _counter("attempts_failed_total", ("model",), "Attempts at an analysis that failed.")
JOB_SECONDS = _histogram(
    "job_seconds", ("stage", "model"), "How long analyses were in each stage: queued, planning, loading, running, "
    "building, saving.",
)  # fmt: skip

DRIFT_FEATURES = _gauge(
    "drift_features", MetricSource.DATABASE, ("model", "peer"),
    "Features of inputs and outputs that drift, by model and who sends the images; 0 while all is as in the reference.",
)  # fmt: skip

ROUTE_STOPPED = _gauge("route_stopped", MetricSource.DATABASE, ("route",), "1 while a route was moved to shadow.")

# --- deliveries ----------------------------------------------------------------------------------------------------

DELIVERIES = _counter(
    "deliveries_total", ("destination", "outcome"), "What became of tries to deliver: sent, put_off (refused for now), "
    "away (nobody answered or let the node in), parked (refused for good), held (another patient's).",
)  # fmt: skip
DELIVERY_OUTCOMES = ("sent", "put_off", "away", "parked", "held")
DELIVERY_SECONDS = _histogram(
    "delivery_seconds", ("destination",), "From when an object or event was owed until it arrived, the first time."
)
DELIVERIES_OPEN = _gauge(
    "deliveries_open", MetricSource.DATABASE, ("destination", "state"), "Objects and events that wait or are parked."
)
DELIVERY_OLDEST = _gauge(
    "delivery_oldest_seconds", MetricSource.DATABASE, ("destination",), "Since when the first that waits is owed."
)
DESTINATION_UP = _gauge(
    "destination_up", MetricSource.PROCESS, ("destination",), "0 while a destination takes nothing; 1 when it does."
)
DESTINATION_SUSPENDED = _gauge(
    "destination_suspended", MetricSource.DATABASE, ("destination", "by"),
    "1 while nothing is sent there: by a person, or by the node, which is not let in.",
)  # fmt: skip

# --- people and programs -------------------------------------------------------------------------------------------

API_REQUESTS = _counter(
    "api_requests_total", ("method", "route", "status"), "Requests answered by the API and its page; `route` is the "
    "address with its parts unnamed, other what is no route: files of the page, and what is not there.",
)  # fmt: skip
API_SECONDS = _histogram(
    "api_response_seconds", ("method", "route"), "From a request until its answer began.", _ANSWER_BOUNDS_S
)
# --- reports of radiologists ---------------------------------------------------------------------------------------

REPORTS = _gauge("reports", MetricSource.DATABASE, ("match",), "Radiologists' reports by whether their study is known.")
REPORTS_READ = _counter(
    "reports_read_total", ("outcome",), "Looks at reports: matched, unmatched (looked at again later), unread (its "
    "reader ended), changed (another state of it came meanwhile).",
)  # fmt: skip
REPORT_OUTCOMES = ("matched", "unmatched", "unread", "changed")
REPORT_SEARCHES = _counter(
    "report_searches_total", ("outcome",), "Searches for a study's report at the EHR: found, none, failed."
)
REPORT_SEARCH_OUTCOMES = ("found", "none", "failed")
CONCORDANCE = _counter(
    "concordance_total", ("model", "verdict"), "Findings that a model and a report were held against each other for, "
    "when the report came: agree, model_only, report_only, unsure.",
)  # fmt: skip

# --- what it stands on ---------------------------------------------------------------------------------------------

DISK_FREE = _gauge("disk_free_bytes", MetricSource.NOW, ("folder",), "Free bytes of the file system of a folder.")
DISK_USED = _gauge("disk_used_bytes", MetricSource.NOW, ("folder",), "Used bytes of the file system of a folder.")
DISK_RESERVE = _gauge("disk_reserve_bytes", MetricSource.NOW, (), "With less free, studies are refused.")
DISK_FULL = _gauge(
    "disk_full_timestamp_seconds", MetricSource.NOW, (), "When the disk of the data will be full, as it grew day by "
    "day; not told while it does not grow, or is known for too few days.",
)  # fmt: skip
DATABASE_SIZE = _gauge("database_bytes", MetricSource.NOW, (), "Size of the SQLite database with its log.")
DATABASE_UP = _gauge("database_up", MetricSource.NOW, (), "1 when the database takes changes.")
DATABASE_SECONDS = _histogram(
    "database_transaction_seconds", ("access",), "Transactions from the wish for a connection to the commit: read, "
    "write.", _DATABASE_BOUNDS_S,
)  # fmt: skip
DATABASE_FAILURES = _counter(
    "database_failures_total", (), "Transactions that the database could not serve; they are tried again."
)
PROCESS_MEMORY = _gauge(
    "process_memory_bytes", MetricSource.NOW, ("process",), "Resident memory of this process and of those it started."
)
GPU_USED = _gauge("gpu_used_bytes", MetricSource.NOW, ("gpu",), "Memory of a GPU that is in use, by whomever.")
GPU_TOTAL = _gauge("gpu_total_bytes", MetricSource.NOW, ("gpu",), "Memory of a GPU.")
PROCESS_STARTS = _counter(
    "process_starts_total", ("process",), "Starts of processes: the acceptor, those for headers, workers for models."
)
PROCESS_DEATHS = _counter(
    "process_deaths_total", ("process", "why"), "Processes that ended in the middle of their work: time, memory, died."
)
CERTIFICATE_EXPIRES = _gauge(
    "certificate_expires_timestamp_seconds", MetricSource.NOW, ("certificate",), "When a certificate in use ends."
)
CLOCK_WELL = _gauge("clock_well", MetricSource.NOW, (), "0 when the clock is not to be believed.")
CLOCK_OFFSET = _gauge("clock_offset_seconds", MetricSource.NOW, (), "By how much time servers were ahead of the clock.")
AUDIT_WRITABLE = _gauge("audit_writable", MetricSource.NOW, (), "1 when acts can be written into the audit trail.")
SETTINGS_CURRENT = _gauge(
    "settings_current", MetricSource.NOW, (), "0 when the settings file says other than this process runs with."
)
ROLE_AT_WORK = _gauge("role_at_work", MetricSource.NOW, ("role",), "1 when a process of the node does this role.")
DAMAGED = _gauge("damaged_objects", MetricSource.DATABASE, (), "Kept objects whose bytes the disk has changed or lost.")
ALARMS_OPEN = _gauge("alarms_open", MetricSource.DATABASE, ("rule",), "Alarms that stand, acknowledged or not.")
BUILD_INFO = _gauge("build_info", MetricSource.NOW, ("version", "ae_title"), "1; the labels say which node this is.")

METRICS: tuple[Metric, ...] = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
BY_NAME = {one.name: one for one in METRICS}


def metric_table() -> str:
    """Return the table as Markdown, for the reference."""
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.source} | {one.help} |"
        for one in METRICS
    ]
    return "\n".join(["| name | kind | labels | from | says |", "|---|---|---|---|---|", *rows])
