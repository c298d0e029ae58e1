"""Sections on alarms: who is told, which rules are judged and with which limits; the kinds of receiver are in
`deliver.alarms`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from dicom_node.config.section import Section
from dicom_node.core.alarms.rules import BY_CODE, AlarmLimits, Severity
from dicom_node.core.alarms.telling import AlarmReceiver, QuietHours
from dicom_node.core.codes import table


def _known(codes: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(codes) - set(BY_CODE))
    if unknown:
        raise ValueError(f"there is no rule {', '.join(unknown)}; there are: {', '.join(BY_CODE)}")
    return codes


RuleCodes = Annotated[tuple[str, ...], AfterValidator(_known)]


class AlarmsSettings(Section):
    off: RuleCodes = Field((), description="Rules that are not judged, by their code.")
    limits: Mapping[str, float] = Field(
        default_factory=dict,
        description="Limits other than those of the table of rules, in its units: `{ results_waiting = 120 }`.",
    )
    every_s: float = Field(30, ge=1, le=3600, description="How often the rules are judged.")
    ask_every_s: float = Field(
        300, ge=0, le=86400, description="How often every destination is asked whether it is there; 0: never."
    )
    repeat_hours: float = Field(
        24, ge=0, le=8760, description="An alarm that nobody acknowledges is told again after so long; 0: never."
    )

    @field_validator("limits")
    @classmethod
    def _limits_are_of_rules(cls, limits: Mapping[str, float]) -> Mapping[str, float]:
        _known(tuple(limits))
        for code, value in limits.items():
            if not BY_CODE[code].unit:
                raise ValueError(f"rule {code} has no limit")
            if not 0 < value < 1_000_000:
                raise ValueError(f"the limit of {code} must be a number above 0, in {BY_CODE[code].unit}")
        return limits

    @property
    def as_limits(self) -> AlarmLimits:
        """What is judged, and by which limits."""
        return AlarmLimits(frozenset(self.off), dict(self.limits))


class SelfTestSettings(Section):
    at: str = Field(
        "",
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$",
        description="When each day a synthetic study goes through the whole node, `03:00` by `node.time_zone`; empty: "
        "never. It goes to no destination, and is removed afterwards.",
    )
    phantom: Literal["chest-ct", "chest-radiograph"] = Field(
        "chest-ct", description="What it shows: a route must want it."
    )
    limit_minutes: float = Field(30, gt=0, le=600, description="It has failed when it has not come through by then.")


class CriticalFindingSettings(Section):
    """A finding that is an alarm: by its code, on any route or on one."""

    finding: str = Field(
        min_length=1, description="Key of the terminology (`pneumothorax`), or `SCHEME:VALUE` of a model's own code."
    )
    route: str = Field("", description="Only on this route; empty: on any.")
    at_least: float | None = Field(
        None, ge=0, le=1, description="Score from which on it counts; none: where the model says that it is present."
    )

    @field_validator("finding")
    @classmethod
    def _finding_is_coded(cls, text: str) -> str:
        if text not in table("findings") and not re.fullmatch(r"[A-Z0-9]{1,16}:[!-~]{1,64}", text):
            raise ValueError(f"{text!r} is no key of the terminology's findings, and no code as in SCT:36118008")
        return text

    @property
    def code(self) -> tuple[str, str]:
        """Its coding scheme and value."""
        term = table("findings").get(self.finding)
        if term is not None:
            return term.code.scheme, term.code.value
        scheme, _, value = self.finding.partition(":")
        return scheme, value

    @property
    def meaning(self) -> str:
        """What an alarm calls it."""
        term = table("findings").get(self.finding)
        return term.code.meaning if term is not None else self.finding


class AlarmSettings(Section):
    """What every receiver of alarms has; the kinds are in `deliver.alarms`."""

    name: str = Field(min_length=1, max_length=64, description="Name of the receiver.")
    kind: str = Field(description="How alarms get there.")
    severity: Severity = Field(
        Severity.NOTICE, description="From which severity on it is told: `notice`, `warning`, `critical`."
    )
    rules: RuleCodes = Field((), description="Of which rules it is told, by their code; none: of all.")
    quiet_hours: str = Field(
        "",
        description="Hours in which only what is critical is told, `22:00-06:30` by `node.time_zone`; the rest is held "
        "back and told in one message when they end.",
    )

    @field_validator("quiet_hours")
    @classmethod
    def _hours_can_be_read(cls, text: str) -> str:
        QuietHours.parse(text)
        return text

    @property
    def as_receiver(self) -> AlarmReceiver:
        """Who is told of what, and when."""
        return AlarmReceiver(
            name=self.name, least=self.severity, rules=frozenset(self.rules), quiet=QuietHours.parse(self.quiet_hours)
        )
