"""Routes as a person writes them become routes in force, or are tried first on the studies that have come already."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, and_, select

from dicom_node.config.running import RouteSettings
from dicom_node.config.settings import Settings
from dicom_node.core.entities import Route, Study
from dicom_node.core.errors import SettingsError
from dicom_node.core.series.predicates import check_conditions
from dicom_node.core.series.routing import OWN_ATTRIBUTES, check_rank
from dicom_node.core.series.trial import RulesTrial, TriedChoice, TriedRule, choice_of, tried
from dicom_node.headers.header import ROUTING_KEYWORDS, snake_case
from dicom_node.index.studies import load_study
from dicom_node.index.tables import jobs, studies
from dicom_node.inference.cards.card import ModelCard
from dicom_node.operate.expressions import MOST_WAYS, ends_soon

S = TypeVar("S", bound=Settings)

#: So many studies the rules are tried on at most: each is read with all its images' headers.
MOST_STUDIES = 1000


# --- from the settings -------------------------------------------------------------------------------------------


def routes_of(settings: Settings, cards: Mapping[str, ModelCard]) -> tuple[Route, ...]:
    """Return the routes, checked: conditions, ranks and model names are known. Raises `SettingsError`."""
    return tuple(_route(number, settings, cards) for number in range(len(settings.route)))


def rules_of(settings: Settings, cards: Mapping[str, ModelCard]) -> Sequence[TriedRule]:
    """Return each route with what its model takes. Raises `SettingsError`."""
    return [
        TriedRule(route, cards[route.model].accepts, cards[route.model].rank) for route in routes_of(settings, cards)
    ]


def _route(number: int, settings: Settings, cards: Mapping[str, ModelCard]) -> Route:
    route = settings.route[number]
    if route.model not in cards:
        raise SettingsError(
            f"{settings.place_of('route', number, 'model')}: Route {route.name!r} names model {route.model!r}, which "
            f"was not found. Available: {', '.join(sorted(cards)) or 'none'}. Correct the route, or run: dicom-node "
            "models verify"
        )
    shadowed = next((other for other in settings.route if other.name == route.shadow_of), route)
    given = route.when or shadowed.when
    when = tuple(given) if isinstance(given, list) else ((given,) if given else ())
    rank = route.rank or shadowed.rank
    known = {snake_case(keyword) for keyword in ROUTING_KEYWORDS} | OWN_ATTRIBUTES
    with _placed(settings, number, "when"):
        for conditions in when:
            check_conditions(conditions, known)
    with _placed(settings, number, "rank"):
        check_rank(rank, known)
    with _placed(settings, number, "parameters"):
        cards[route.model].effective_parameters(route.parameters)
    return Route(
        name=route.name,
        model=route.model,
        destinations=() if route.shadow else route.destinations or tuple(d.name for d in settings.destination),
        when=when,
        rank=rank,
        quiet_period_s=route.quiet_period_s,
        max_wait_s=route.max_wait_s,
        priority="low" if route.shadow and route.priority == "images" else route.priority,
        shadow_of=route.shadow_of,
    )


@contextmanager
def _placed(settings: Settings, number: int, key: str) -> Iterator[None]:
    """Say of what a key of a route is refused for where it was written."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{settings.place_of('route', number, key)}: route.{number}.{key}: {error}") from error


# --- as a person proposes them -----------------------------------------------------------------------------------


def proposed_routes(text: str) -> Sequence[Mapping[str, object]]:
    """Return the `[[route]]` tables of a text in TOML. Raises `SettingsError`."""
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"This is not valid TOML: {error}") from error
    routes = found.get("route")
    if set(found) != {"route"} or not isinstance(routes, list) or not all(isinstance(one, dict) for one in routes):
        raise SettingsError("Write one or more [[route]] tables, and nothing else.")
    return routes


def with_routes(settings: S, proposed: Sequence[Mapping[str, object]]) -> S:
    """Return the settings in which each proposed route takes the place of the one of its name, or comes last.

    It is validated as the file is; and since it comes by the network, what could keep the node busy for ever is
    refused, too. Raises `SettingsError`.
    """
    for route in proposed:
        _require_bounded(route.get("when"))
    try:
        routes = {one.name: one for one in settings.route} | {
            one.name: one for one in map(RouteSettings.model_validate, proposed)
        }
        values = {name: getattr(settings, name) for name in type(settings).model_fields}
        return type(settings).model_validate(values | {"route": tuple(routes.values())})
    except ValidationError as error:
        told = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ") for one in error.errors())
        raise SettingsError(f"The route cannot be used: {'; '.join(told)}") from error


def _require_bounded(when: object) -> None:
    """Raise `SettingsError` for a regular expression that may take for ever on some text, wherever it stands."""
    if isinstance(when, Mapping):
        pattern = when.get("regex")
        if isinstance(pattern, str) and not _ends_soon(pattern):
            raise SettingsError(
                f"The regular expression {pattern[:100]!r} may take for ever: it can be tried in more than {MOST_WAYS} "
                "ways. Write it with fewer of *, +, ?, {n,m} and |, and none of them within another; or put the route "
                "into the configuration file."
            )
        when = list(when.values())
    for one in when if isinstance(when, list | tuple) else ():
        _require_bounded(one)


def _ends_soon(pattern: str) -> bool:
    try:
        return ends_soon(pattern)
    except re.error:
        return True  # it is no expression: the settings say what is wrong with it


# --- tried -------------------------------------------------------------------------------------------------------


def try_rules(
    connection: Connection, present: Sequence[TriedRule] | None, rules: Sequence[TriedRule], limit: int,
    since: datetime | None = None,
) -> RulesTrial:  # fmt: skip
    """Try rules on the latest studies, at most `limit`, of those that had their last image after `since`; nothing runs.

    They are held against what the `present` rules say; `None`: against what was decided when the studies came.
    """
    present_names = [] if present is None else [one.route.name for one in present]
    names = list(dict.fromkeys([one.route.name for one in rules] + present_names))

    def before(study: Study) -> Mapping[str, TriedChoice]:
        if present is None:
            return _decided_then(connection, study)
        return {one.route.name: choice_of(one.decide(study)) for one in present}

    return tried(_latest(connection, limit, since), before, rules, names)


def _latest(connection: Connection, limit: int, since: datetime | None) -> Iterator[Study]:
    query = select(studies.c.study_instance_uid).order_by(studies.c.last_received_at.desc())
    if since is not None:
        query = query.where(studies.c.last_received_at >= since)
    for uid in connection.execute(query.limit(min(limit, MOST_STUDIES))).scalars().all():
        study = load_study(connection, uid)
        if study is not None and study.series:
            yield study


def _decided_then(connection: Connection, study: Study) -> Mapping[str, TriedChoice]:
    mine = and_(jobs.c.study_instance_uid == study.study_instance_uid, jobs.c.revision == study.revision)
    rows = connection.execute(select(jobs.c.route, jobs.c.series_instance_uid).where(mine))
    return {row.route: TriedChoice(True, row.series_instance_uid) for row in rows}
