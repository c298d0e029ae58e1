"""The table of alarm rules: what each watches, how grave it is, when it is raised, and what is to be done then.

Settings, API and documentation are made from this table; how each is judged is in `operate.alarms.judges`, by the same
codes. A new rule is a line here and a function there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

_HOUR = timedelta(hours=1)
#: By which title the node calls itself when it tests itself.
SELF_TEST_TITLE = "SELFTEST"


class Severity(StrEnum):
    """How grave an alarm is: only what is CRITICAL is told in quiet hours."""

    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """A larger number is graver."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """One rule.

    `title` says what is the matter, `about` what the alarm's subject is, `limit` with its `unit` what a site may set.
    What is seen must last for `raise_after` to be raised, and be gone for `clear_after` to be cleared.
    `ends_with_acknowledgement`: it is about something that happened and does not last, and is over when a person knows.
    """

    code: str
    severity: Severity
    title: str
    about: str
    judged: str
    advice: str
    limit: float = 0.0
    unit: str = ""
    raise_after: timedelta = timedelta(0)
    clear_after: timedelta = timedelta(minutes=5)
    ends_with_acknowledgement: bool = False


SCANNER_SILENT = AlarmRule(
    code="scanner_silent",
    severity=Severity.WARNING,
    title="A scanner has fallen silent",
    about="calling AE title",
    judged="Nothing came from it for longer than its habit of the last eight weeks, by weekday and hour; never before "
    "so many weeks of it are known.",
    advice="Ask at the scanner whether it sends; the page (Node) shows what peers could not send.",
    limit=4,
    unit="weeks",
    clear_after=timedelta(0),
)
RESULTS_WAITING = AlarmRule(
    code="results_waiting",
    severity=Severity.WARNING,
    title="Results wait for a destination",
    about="destination",
    judged="The first that waits, object or event, has been owed for longer than this, and no person has suspended it.",
    advice="See on the page what waits and why; look at the destination, then: dicom-node retry --destination NAME",
    limit=60,
    unit="minutes",
)
RESULTS_PARKED = AlarmRule(
    code="results_parked",
    severity=Severity.WARNING,
    title="Results are parked: a destination refused them",
    about="destination",
    judged="The first that is parked was owed longer ago than this.",
    advice="See on the page why it was refused; mend that, then send again or discard.",
    limit=15,
    unit="minutes",
)
ANALYSES_WAITING = AlarmRule(
    code="analyses_waiting",
    severity=Severity.WARNING,
    title="Analyses wait too long",
    about="model",
    judged="The first of the queue has been due for longer than this.",
    advice="Look whether a worker runs and is not overloaded; the page shows what waits, dicom-node doctor what lacks.",
    limit=60,
    unit="minutes",
)
MODEL_ERRORS = AlarmRule(
    code="model_errors",
    severity=Severity.CRITICAL,
    title="A model fails often",
    about="model",
    judged="So much of its analyses of the last 24 hours failed for good, and at least three did.",
    advice="Read why on the page of a failed study; suspend the route or mend the model, then: dicom-node rerun STUDY",
    limit=20,
    unit="percent",
)
DISK_FILLING = AlarmRule(
    code="disk_filling",
    severity=Severity.WARNING,
    title="The disk will be full soon",
    about="folder",
    judged="As it grew lately, it is full in fewer days than this.",
    advice="Set [retention], or add disk; what may go: dicom-node purge --dry-run",
    limit=14,
    unit="days",
    clear_after=_HOUR,
)
DISK_FULL = AlarmRule(
    code="disk_full",
    severity=Severity.CRITICAL,
    title="The disk is full: images are refused",
    about="folder",
    judged="Less is free than `node.min_free_mb`.",
    advice="Modalities keep images and try again; make room at once. What may go: dicom-node purge --dry-run",
)
CERTIFICATE_ENDS = AlarmRule(
    code="certificate_ends",
    severity=Severity.WARNING,
    title="A certificate ends soon",
    about="who shows it",
    judged="A certificate that the node shows ends in fewer days than this, or has ended.",
    advice="Put a renewed certificate and its key in the same files.",
    limit=14,
    unit="days",
)
CLOCK_WRONG = AlarmRule(
    code="clock_wrong",
    severity=Severity.WARNING,
    title="The clock is not to be believed",
    about="nothing",
    judged="As `[time]` says; never where it names no server.",
    advice="Let the machine set its clock by NTP; dicom-node doctor shows what the time servers said.",
    raise_after=timedelta(minutes=10),
)
AUDIT_UNWRITABLE = AlarmRule(
    code="audit_unwritable",
    severity=Severity.CRITICAL,
    title="The audit trail cannot be written",
    about="nothing",
    judged="An act could not be written down; what people ask is refused meanwhile.",
    advice="Look at the disk and the rights of the folder of audit.key_file and audit.anchor_file.",
    raise_after=timedelta(minutes=1),
    clear_after=timedelta(minutes=1),
)
SELF_TEST_FAILED = AlarmRule(
    code="self_test_failed",
    severity=Severity.CRITICAL,
    title="The daily self-test failed",
    about="nothing",
    judged="The last self-test study did not come through; the stage is named. Never where `[selftest]` names no time.",
    advice="Look at the stage that is named: its part of the page, and dicom-node doctor.",
    clear_after=timedelta(0),
)
BACKUP_FAILED = AlarmRule(
    code="backup_failed",
    severity=Severity.WARNING,
    title="A backup failed, or is overdue",
    about="nothing",
    judged="The last backup failed or lacks objects, or was made more than eight days ago; never where none was begun.",
    advice="Correct the cause, then: dicom-node backup FOLDER",
    clear_after=timedelta(0),
)
PEER_UNREACHABLE = AlarmRule(
    code="peer_unreachable",
    severity=Severity.CRITICAL,
    title="A PACS or EHR cannot be reached",
    about="destination",
    judged="For so long it has not answered whenever it was asked, every five minutes, or has not let the node in.",
    advice="Look at its server, the network and its certificate; then: dicom-node doctor",
    limit=10,
    unit="minutes",
    clear_after=timedelta(minutes=1),
)
CRITICAL_FINDING = AlarmRule(
    code="critical_finding",
    severity=Severity.CRITICAL,
    title="A result holds a critical finding",
    about="result",
    judged="A result that stands and that nobody has reviewed holds a finding that a `[[critical_finding]]` names.",
    advice="Sign in on the node's page: the alarm leads to the study. Acknowledge it when somebody acts on it.",
    clear_after=timedelta(0),
    ends_with_acknowledgement=True,
)
ALARMS_UNTOLD = AlarmRule(
    code="alarms_untold",
    severity=Severity.CRITICAL,
    title="Alarms do not reach a receiver",
    about="receiver",
    judged="The first alarm that waits for it has been due for longer than this.",
    advice="Look at [[alarm]] of this name, then: dicom-node alarms test",
    limit=30,
    unit="minutes",
    clear_after=timedelta(0),
)
RULES: tuple[AlarmRule, ...] = (
    SCANNER_SILENT,
    RESULTS_WAITING,
    RESULTS_PARKED,
    ANALYSES_WAITING,
    MODEL_ERRORS,
    DISK_FILLING,
    DISK_FULL,
    CERTIFICATE_ENDS,
    CLOCK_WRONG,
    AUDIT_UNWRITABLE,
    SELF_TEST_FAILED,
    BACKUP_FAILED,
    PEER_UNREACHABLE,
    CRITICAL_FINDING,
    ALARMS_UNTOLD,
)
BY_CODE: Mapping[str, AlarmRule] = {one.code: one for one in RULES}


@dataclass(frozen=True, slots=True)
class AlarmLimits:
    """The rules as a site wants them: those that are on, and its limits where it has set some."""

    off: frozenset[str] = frozenset()
    limits: Mapping[str, float] = field(default_factory=dict)

    def of(self, rule: AlarmRule) -> float:
        """Return the limit of a rule, in its unit."""
        return self.limits.get(rule.code, rule.limit)


def rule_table() -> str:
    """Return the table as Markdown, for the reference."""
    rows = [
        f"| `{one.code}` | {one.severity} | {one.title} | {one.judged} | {_limit(one)} | {one.advice} |"
        for one in RULES
    ]
    header = "| rule | severity | what | of which | how it is judged | limit | what to do |"
    return "\n".join([header, "|---|---|---|---|---|---|---|", *rows])


def _limit(rule: AlarmRule) -> str:
    return f"{rule.limit:g} {rule.unit}" if rule.unit else "–"
