"""Which series of a study a route's model gets, and why or why not. Pure; the order of arrival never matters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from dicom_node.core.entities import Instance, Route, Series, Study
from dicom_node.core.series.age import AGE_YEARS, completed_years
from dicom_node.core.series.facts import (
    CONCLUDED,
    LAST_KEYS,
    RANK_KEYS,
    Attributes,
    concluded,
    evidence_of,
    extent_mm,
    whole_or_part,
)
from dicom_node.core.series.predicates import Clause, check_attribute, evaluate, number_in

#: What a series is known by besides the attributes of its headers.
OWN_ATTRIBUTES = CONCLUDED | {
    AGE_YEARS, "instances", "sop_class_uid", "transfer_syntax_uid", "calling_ae_title", "called_ae_title",
    "source_host",
}  # fmt: skip

Alternatives = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One series as the route and the model see it: the clauses of the alternative that came closest in each.

    `rank_values` are ``key=value`` texts, one per rank key.
    """

    series_instance_uid: str
    instances: int
    meets_route: bool
    meets_model: bool
    clauses: tuple[Clause, ...]
    rank_values: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the model may be given this series."""
        return self.meets_route and self.meets_model


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """What one route made of one study. `chosen` is a Series Instance UID; candidates stand in order of choice."""

    route_name: str
    matched: bool
    chosen: str | None
    candidates: tuple[Candidate, ...]
    tie: bool
    reason: str

    def as_dict(self) -> dict[str, object]:
        """Return the decision as JSON-ready data."""
        return asdict(self)


def series_attributes(series: Series) -> dict[str, frozenset[str]]:
    """Return each attribute's distinct values over the instances; multi-valued ones whole and in their parts."""
    collected: defaultdict[str, set[str]] = defaultdict(set)
    for instance in series.instances:
        for name, text in _instance_attributes(instance):
            collected[name].update(_values(text))
    collected["instances"] = {str(len(series.instances))}
    attributes = {name: frozenset(values) for name, values in collected.items() if values}
    return {**attributes, **concluded(attributes)}


def decide(study: Study, route: Route, accepts: Alternatives, rank: Sequence[str]) -> RouteDecision:
    """Decide whether `route` wants `study` and which series its model gets.

    `accepts` are the model's own alternatives and `rank` its order of series, used where the route has none. No
    alternatives means that everything is met.
    """
    keys = tuple(route.rank or rank)
    seen = [_judged(series, attributes, route.when, accepts, keys) for series, attributes in _with_attributes(study)]
    ordered = _ranked(seen, (*keys, *LAST_KEYS))
    candidates = tuple(one.candidate for one in ordered)
    matched = any(candidate.meets_route for candidate in candidates)
    fitting = [one for one in ordered if one.candidate.fits]
    tie = len(fitting) > 1 and fitting[0].sort_values == fitting[1].sort_values
    return RouteDecision(
        route_name=route.name,
        matched=matched,
        chosen=fitting[0].candidate.series_instance_uid if fitting else None,
        candidates=candidates,
        tie=tie,
        reason=_reason(route.name, matched, candidates, _what_decided(fitting, (*keys, *LAST_KEYS))),
    )


def check_rank(rank: Sequence[str], known: Collection[str] | None = None) -> None:
    """Raise `SettingsError` for a rank key that is neither an attribute (``-`` in front: descending) nor special."""
    for key in rank:
        if key not in RANK_KEYS:
            check_attribute(key.removeprefix("-"), known)


# --- judging one series ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Judged:
    candidate: Candidate
    attributes: Attributes
    sort_values: tuple[_SortValue | None, ...]


def _with_attributes(study: Study) -> list[tuple[Series, Attributes]]:
    """Return each series with its attributes, `extent` among them: whether it is a part of what another one shows."""
    told = [(series, series_attributes(series)) for series in study.series]
    extents = [extent_mm(series, attributes) for series, attributes in told]
    longest = max((one for one in extents if one is not None), default=None)
    return [
        (series, {**attributes, "extent": frozenset({whole_or_part(extent, longest)})})
        for (series, attributes), extent in zip(told, extents, strict=True)
    ]


def _judged(
    series: Series, attributes: Attributes, when: Alternatives, accepts: Alternatives, keys: Sequence[str]
) -> _Judged:
    route_clauses = _closest(when, attributes, "route")
    model_clauses = _closest(accepts, attributes, "model")
    candidate = Candidate(
        series_instance_uid=series.series_instance_uid,
        instances=len(series.instances),
        meets_route=all(clause.holds for clause in route_clauses),
        meets_model=all(clause.holds for clause in model_clauses),
        clauses=route_clauses + model_clauses,
        rank_values=tuple(f"{key}={_rank_text(key, attributes)}" for key in keys),
    )
    return _Judged(candidate, attributes, tuple(_sort_value(key, attributes) for key in (*keys, *LAST_KEYS)))


def _closest(alternatives: Alternatives, attributes: Attributes, asked_by: str) -> tuple[Clause, ...]:
    """Return the clauses of the alternative that is met, or else fails the fewest; the first of equals."""
    told = [evaluate(conditions, attributes) for conditions in alternatives]
    best = min(told, key=lambda clauses: sum(not clause.holds for clause in clauses), default=())
    return tuple(replace(_with_evidence(clause, attributes), asked_by=asked_by) for clause in best)


def _with_evidence(clause: Clause, attributes: Attributes) -> Clause:
    evidence = evidence_of(clause.attribute, attributes)
    return replace(clause, actual=f"{clause.actual}, by {evidence}") if evidence else clause


def _instance_attributes(instance: Instance) -> Iterable[tuple[str, str]]:
    # Headers that were read by an older version have no age of their own.
    yield AGE_YEARS, completed_years(instance.attributes.get("patient_age", ""))
    yield from instance.attributes.items()
    yield "sop_class_uid", instance.sop_class_uid
    yield "transfer_syntax_uid", instance.transfer_syntax_uid
    yield "calling_ae_title", instance.sender.calling_ae_title
    yield "called_ae_title", instance.sender.called_ae_title
    yield "source_host", instance.sender.host


def _values(text: str) -> Iterable[str]:
    """Split at the backslash and keep the whole; padding (PS3.5 6.2) and empty values mean nothing."""
    parts = [part.strip(" \0") for part in text.split("\\")]
    return {value for value in (*parts, "\\".join(parts)) if value.strip("\\")}


# --- ranking -----------------------------------------------------------------------------------------------------

#: Numbers sort as numbers and before texts: (is text, number, text).
_SortValue = tuple[bool, float, str]


def _ranked(seen: Iterable[_Judged], keys: Sequence[str]) -> list[_Judged]:
    """Order by fitness, then by the rank keys, then by series UID; a series lacking a value comes last."""
    ordered = sorted(seen, key=lambda one: one.candidate.series_instance_uid)
    for position in reversed(range(len(keys))):
        _sort_by(ordered, position, descending=keys[position].startswith("-"))
    ordered.sort(key=lambda one: (not one.candidate.fits, not one.candidate.meets_route))
    return ordered


def _sort_by(ordered: list[_Judged], position: int, *, descending: bool) -> None:
    """Sort in place and stably by one rank key."""

    def key(one: _Judged) -> tuple[bool, _SortValue]:
        value = one.sort_values[position]
        return (value is None) is not descending, value or (False, 0.0, "")

    ordered.sort(key=key, reverse=descending)


def _sort_value(key: str, attributes: Attributes) -> _SortValue | None:
    """Return the value of a series under a rank key: its smallest, or its largest where the key descends."""
    if key in RANK_KEYS:
        return (False, RANK_KEYS[key](attributes)[0], "")
    values = [_comparable(value) for value in attributes.get(key.removeprefix("-"), ())]
    if not values:
        return None
    return max(values) if key.startswith("-") else min(values)


def _rank_text(key: str, attributes: Attributes) -> str:
    if key in RANK_KEYS:
        return RANK_KEYS[key](attributes)[1]
    value = _sort_value(key, attributes)
    if value is None:
        return "absent"
    is_text, number, text = value
    return text if is_text else f"{number:g}"


def _comparable(text: str) -> _SortValue:
    number = number_in(text)
    return (True, 0.0, text.casefold()) if number is None else (False, number, "")


def _what_decided(fitting: Sequence[_Judged], keys: Sequence[str]) -> str:
    """Say by which key the best series goes before the next one; "" where there is no other."""
    if len(fitting) < 2:
        return ""
    best, second = fitting[:2]
    for key, mine, other in zip(keys, best.sort_values, second.sort_values, strict=True):
        if mine != other:
            return f", by {key}={_rank_text(key, best.attributes)} before {_rank_text(key, second.attributes)}"
    return f"; equal in rank with series {second.candidate.series_instance_uid}, lower UID taken"


# --- the reason in words -----------------------------------------------------------------------------------------


def _reason(route_name: str, matched: bool, candidates: Sequence[Candidate], decided_by: str) -> str:
    if not candidates:
        return f"The study has no source series for route {route_name}."
    if not matched:
        return f"No series meets route {route_name}. Closest: {shortfall(candidates)}"
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        return f"Route {route_name} matches, but no series fits its model. Closest: {shortfall(candidates)}"
    best = fitting[0]
    text = f"Series {best.series_instance_uid} ({best.instances} instances) chosen of {len(fitting)} that fit"
    return f"{text}{decided_by}."


def shortfall(candidates: Sequence[Candidate]) -> str:
    """Tell what the series that failed the fewest clauses lacks; of equals, the one that stands first.

    There must be a candidate, and none that fits.
    """
    closest = min(candidates, key=lambda candidate: (not candidate.meets_route, len(_failed(candidate))))
    lacks = ", ".join(f"{c.attribute} {c.condition} (is {c.actual})" for c in _failed(closest))
    return f"series {closest.series_instance_uid} fails {lacks}."


def _failed(candidate: Candidate) -> list[Clause]:
    return [clause for clause in candidate.clauses if not clause.holds]
