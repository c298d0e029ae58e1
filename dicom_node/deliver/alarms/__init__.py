"""The kinds of receiver of alarms: one module each, and one line each in the table below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dicom_node.config.settings import Settings
from dicom_node.deliver.alarms.email import EmailAlarm
from dicom_node.deliver.alarms.kind import AlarmKind
from dicom_node.deliver.alarms.webhook import WebhookAlarm

#: The table.
AnyAlarm = Annotated[WebhookAlarm | EmailAlarm, Field(discriminator="kind")]


def alarm_kinds_of(settings: Settings) -> tuple[AlarmKind, ...]:
    """Return the receivers of settings that were read with their kinds, as `kinds.destinations_of` does."""
    for one in settings.alarm:
        if not isinstance(one, AlarmKind):
            raise TypeError(f"alarm {one.name!r} has no kind; read settings as `SiteSettings`")
    return tuple(one for one in settings.alarm if isinstance(one, AlarmKind))
