"""Who is told of alarms, and by which clock their quiet hours go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from dicom_node.core.alarms.telling import AlarmReceiver


@dataclass(frozen=True, slots=True)
class AlarmReceivers:
    """The receivers of the settings; `zone` is the site's time zone, `None`: the machine's."""

    receivers: Sequence[AlarmReceiver] = ()
    zone: tzinfo | None = None
