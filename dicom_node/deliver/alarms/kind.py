"""What a kind of receiver of alarms is: its settings are its fields, and it sends one message at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dicom_node.config.alarms import AlarmSettings
from dicom_node.core.alarms.telling import AlarmMessage


class AlarmKind(AlarmSettings, ABC):
    """One receiver."""

    @abstractmethod
    def send(self, message: AlarmMessage, timeout_s: float) -> None:
        """Return when the receiver has it. Raises `DeliveryError`."""
