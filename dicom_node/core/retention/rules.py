"""What of a study may be deleted, and why everything else stays. Pure: facts in, a choice with its reason out.

One table of rules says what keeps a study, whatever its age and however full the disk is; a new reason to keep is one
line of it. Age and free space only choose among what no rule keeps: the images first, what was made of them later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dicom_node.core.entities import KeptKind, StudyState

#: What was active a moment ago is not deleted for want of space either: its next step may not have been written down.
YOUNGEST = timedelta(hours=1)
_BOTH = frozenset(KeptKind)
_ONLY_RESULTS = frozenset({KeptKind.RESULTS})
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What decides on one study. Counts are of rows at one moment; `last_active_at` is when anything happened to it
    last: an image, an analysis, a delivery, a review. `images` and `results` are files with their bytes."""

    study_instance_uid: str
    state: StudyState
    last_active_at: datetime
    images: int = 0
    image_bytes: int = 0
    results: int = 0
    result_bytes: int = 0
    #: Who holds it, and why; "": nobody.
    held_by: str = ""
    held_because: str = ""
    open_associations: int = 0
    retrievals: int = 0
    waiting_jobs: int = 0
    suspended_routes: int = 0
    owed: int = 0
    to_take_back: int = 0
    unproved: int = 0
    reviews_under_way: int = 0
    being_reviewed: bool = False

    @property
    def next_kind(self) -> KeptKind | None:
        """What would go next; `None`: nothing of it is kept but its rows."""
        if self.images:
            return KeptKind.IMAGES
        return KeptKind.RESULTS if self.results else None

    def bytes_of(self, kind: KeptKind) -> int:
        """Return how much that is on the disk."""
        return self.image_bytes if kind is KeptKind.IMAGES else self.result_bytes


@dataclass(frozen=True, slots=True)
class StayRule:
    """A reason to keep: its code, of what, when it holds, and how it is said."""

    code: str
    holds: Callable[[StudyFacts], object]
    said: Callable[[StudyFacts], str]
    of: frozenset[KeptKind] = _BOTH


#: Why a study stays. The first that holds is the one that is told.
STAY_RULES: tuple[StayRule, ...] = (
    StayRule("HELD", lambda f: f.held_by, lambda f: f"Held by {f.held_by}: {f.held_because}"),
    StayRule(
        "ARRIVING",
        lambda f: f.state is StudyState.RECEIVING or f.open_associations or f.retrievals,
        lambda _: "Images are still arriving.",
    ),
    StayRule(
        "ANALYSING",
        lambda f: f.state in (StudyState.COMPLETE, StudyState.ANALYSING) or f.waiting_jobs,
        lambda _: "An analysis of it waits or runs.",
    ),
    StayRule(
        "SUSPENDED_ROUTE", lambda f: f.suspended_routes, lambda _: "A suspended route wants it, and is to go on first."
    ),
    StayRule(
        "OWED", lambda f: f.owed, lambda f: f"{_counted(f.owed, 'delivery', 'deliveries')} of it not finished."
    ),
    StayRule(
        "TO_TAKE_BACK", lambda f: f.to_take_back, lambda _: "Destinations show results of it that are to be taken back."
    ),
    StayRule(
        "UNDER_REVIEW",
        lambda f: f.being_reviewed or f.reviews_under_way,
        lambda f: "Somebody is reviewing it." if f.being_reviewed else "A review of it is not finished.",
    ),
    StayRule(
        "NOT_PROVED",
        lambda f: f.unproved,
        lambda f: f"Whether {_counted(f.unproved, 'object')} arrived is still being asked.",
        _ONLY_RESULTS,
    ),
    StayRule("IMAGES_FIRST", lambda f: f.images, lambda _: "Its images go first.", _ONLY_RESULTS),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stays:
    """Why something stays: a code, and a sentence."""

    code: str
    text: str


def why_it_stays(facts: StudyFacts, kind: KeptKind) -> Stays | None:
    """Return what keeps a study's images or results, whatever their age; `None`: nothing does."""
    for rule in STAY_RULES:
        if kind in rule.of and rule.holds(facts):
            return Stays(rule.code, rule.said(facts))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionLimits:
    """For how long images and results are kept, and how much disk is to be free; 0: no such limit."""

    images_days: int = 0
    results_days: int = 0
    keep_free_bytes: int = 0

    @property
    def is_set(self) -> bool:
        """Tell whether anything is ever deleted."""
        return bool(self.images_days or self.keep_free_bytes)

    def days_of(self, kind: KeptKind) -> int:
        """Return for how many days this is kept; 0: for good."""
        return self.images_days if kind is KeptKind.IMAGES else self.results_days

    def age_rule(self, kind: KeptKind) -> str:
        """Return the setting that wants it deleted by its age, as it is written."""
        return f"{kind.lower()}_days = {self.days_of(kind)}"

    @property
    def space_rule(self) -> str:
        """The setting that wants room."""
        return f"keep_free_mb = {self.keep_free_bytes // _MEGABYTE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionChoice:
    """What becomes of a study's images or results: it goes by a `rule`, or stays for a reason."""

    facts: StudyFacts
    kind: KeptKind
    rule: str = ""
    stays: Stays | None = None

    @property
    def goes(self) -> bool:
        """Tell whether it is to be deleted."""
        return bool(self.rule)


def choice_by_age(facts: StudyFacts, limits: RetentionLimits, now: datetime) -> RetentionChoice | None:
    """Decide on what would go next of a study by its age; `None` where nothing is left to decide on."""
    kind = facts.next_kind
    if kind is None:
        return None
    stays = why_it_stays(facts, kind)
    if stays is not None:
        return RetentionChoice(facts=facts, kind=kind, stays=stays)
    days, age = limits.days_of(kind), now - facts.last_active_at
    if days and age >= timedelta(days=days):
        return RetentionChoice(facts=facts, kind=kind, rule=limits.age_rule(kind))
    return RetentionChoice(facts=facts, kind=kind, stays=_young(kind, days, age))


def choice_for_space(facts: StudyFacts, kind: KeptKind, limits: RetentionLimits, now: datetime) -> RetentionChoice:
    """Decide on a study's images or results while the disk is too full; whoever asks goes from the oldest on."""
    stays = why_it_stays(facts, kind)
    if stays is None and now - facts.last_active_at < YOUNGEST:
        stays = Stays("YOUNG", "Something happened to it within the last hour.")
    return RetentionChoice(facts=facts, kind=kind, rule="" if stays else limits.space_rule, stays=stays)


def _young(kind: KeptKind, days: int, age: timedelta) -> Stays:
    if not days:
        return Stays("NO_LIMIT", f"{kind.lower()}_days = 0: only want of space deletes them.")
    return Stays("YOUNG", f"Last active {max(age.days, 0)} days ago; {kind.lower()}_days = {days}.")


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
