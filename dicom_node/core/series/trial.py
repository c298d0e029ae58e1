"""Routes tried on studies that have come already: which would be analysed, what would change, and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dicom_node.core.entities import Route, Study
from dicom_node.core.series.routing import Alternatives, RouteDecision, decide

#: So many studies that would change are told of each route; all are counted.
MOST_TOLD = 100


class TrialChange(StrEnum):
    """What becomes of a study under the rules that are tried."""

    SAME = "SAME"
    GAINED = "GAINED"
    LOST = "LOST"
    OTHER_SERIES = "OTHER_SERIES"


@dataclass(frozen=True, slots=True)
class TriedRule:
    """A route with what its model takes and how that ranks series."""

    route: Route
    accepts: Alternatives
    rank: Sequence[str]

    def decide(self, study: Study) -> RouteDecision:
        """Decide whether the route wants the study, and which series its model gets."""
        return decide(study, self.route, self.accepts, self.rank)


@dataclass(frozen=True, slots=True)
class TriedChoice:
    """What a route made of a study: whether it wants it, and the Series Instance UID that its model gets; "": none."""

    is_wanted: bool = False
    series_instance_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseCount:
    """Of how many studies a condition holds, judged on each one's closest series; `asked_by` the route or the model."""

    attribute: str
    condition: str
    asked_by: str
    holds: int
    fails: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedStudy:
    """A study that would be treated otherwise: which series was and would be given to the model, and why."""

    study_instance_uid: str
    last_received_at: datetime
    change: TrialChange
    was: str
    would_be: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTrial:
    """What one route made, and would make, of the studies. `wanted` are those it wants; `analysed` those of which the
    model gets a series, too. `gained`, `lost` and `other_series` count the changes."""

    route: str
    wanted_before: int
    wanted: int
    analysed: int
    gained: int
    lost: int
    other_series: int
    clauses: Sequence[ClauseCount]
    changed: Sequence[ChangedStudy]


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesTrial:
    """The rules tried on so many `studies`, the oldest of which had its last image at `since`."""

    studies: int
    since: datetime | None
    routes: Sequence[RouteTrial]


def tried(
    studies: Iterable[Study],
    before: Callable[[Study], Mapping[str, TriedChoice]],
    rules: Sequence[TriedRule],
    names: Sequence[str],
) -> RulesTrial:
    """Try `rules` on each study beside what was decided `before`, by route; `names` are the routes told of, in order.

    A route that the rules have no more would want nothing.
    """
    by_name = {rule.route.name: rule for rule in rules}
    counted = {name: _Counted() for name in names}
    seen: list[datetime] = []
    for study in studies:
        seen.append(study.last_received_at)
        was = before(study)
        for name, count in counted.items():
            rule = by_name.get(name)
            count.add(study, was.get(name, TriedChoice()), None if rule is None else rule.decide(study))
    told = [count.told(name) for name, count in counted.items()]
    return RulesTrial(studies=len(seen), since=min(seen, default=None), routes=told)


def choice_of(decision: RouteDecision) -> TriedChoice:
    """Return what a decision comes to."""
    return TriedChoice(decision.matched, decision.chosen or "")


@dataclass(slots=True)
class _Counted:
    """What has been seen of one route so far."""

    wanted_before: int = 0
    wanted: int = 0
    analysed: int = 0
    changes: Counter[TrialChange] = field(default_factory=Counter)
    clauses: Counter[tuple[str, str, str, bool]] = field(default_factory=Counter)
    changed: list[ChangedStudy] = field(default_factory=list)

    def add(self, study: Study, was: TriedChoice, decision: RouteDecision | None) -> None:
        now = TriedChoice() if decision is None else choice_of(decision)
        change = _change(was, now)
        self.wanted_before += was.is_wanted
        self.wanted += now.is_wanted
        self.analysed += bool(now.series_instance_uid)
        self.changes[change] += 1
        if decision is not None and decision.candidates:
            for one in decision.candidates[0].clauses:
                self.clauses[one.attribute, one.condition, one.asked_by, one.holds] += 1
        if change is not TrialChange.SAME and len(self.changed) < MOST_TOLD:
            why = "The route is there no more." if decision is None else decision.reason
            self.changed.append(ChangedStudy(
                study_instance_uid=study.study_instance_uid, last_received_at=study.last_received_at, change=change,
                was=was.series_instance_uid, would_be=now.series_instance_uid, reason=why,
            ))  # fmt: skip

    def told(self, name: str) -> RouteTrial:
        asked = dict.fromkeys((attribute, condition, by) for attribute, condition, by, _ in self.clauses)
        clauses = [
            ClauseCount(attribute=attribute, condition=condition, asked_by=by,
                        holds=self.clauses[attribute, condition, by, True],
                        fails=self.clauses[attribute, condition, by, False])
            for attribute, condition, by in asked
        ]  # fmt: skip
        return RouteTrial(
            route=name, wanted_before=self.wanted_before, wanted=self.wanted, analysed=self.analysed,
            gained=self.changes[TrialChange.GAINED], lost=self.changes[TrialChange.LOST],
            other_series=self.changes[TrialChange.OTHER_SERIES], clauses=clauses, changed=self.changed,
        )  # fmt: skip


def _change(was: TriedChoice, now: TriedChoice) -> TrialChange:
    if was == now:
        return TrialChange.SAME
    if was.is_wanted != now.is_wanted:
        return TrialChange.GAINED if now.is_wanted else TrialChange.LOST
    return TrialChange.OTHER_SERIES
