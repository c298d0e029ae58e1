"""What a role is. A new one is a module with one subclass of `Role`, and one line in the table `roles.ROLES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dicom_node.config.settings import Settings
from dicom_node.roles.node import Node


@dataclass(frozen=True, slots=True)
class Sweep:
    """Work that time makes due: done at the start, and again every so many seconds (0: never again)."""

    name: str
    run: Callable[[], object]
    every_s: float = 0.0


class Role:
    """One part of a node: made, started, woken, stopped and joined once, in this order, by `app.Service`.

    What another role needs of it goes through the index or through a part of `Node`, so that it may run elsewhere::

        class PrintRole(Role):
            def start(self) -> Mapping[str, int]:
                self._printer = Printer(self._node.database)
                return {}

            def stop(self) -> None:
                self._printer.stop()
    """

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        """`wake_all` is for when work was queued or made due: it wakes every role of this process."""
        self._node = node
        self._wake_all = wake_all

    def start(self) -> Mapping[str, int]:
        """Begin; return the ports that are open now, by name. Raises `NodeError` when it cannot."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take on nothing new, and end soon; what is unfinished is found again at the next start.

        Also called after a start that failed half way.
        """

    def join(self) -> None:
        """Wait until what was stopped has ended."""

    def prepared(self, wanted: Settings) -> Callable[[], None]:  # noqa: ARG002 - for those that have something to do
        """Return what lets this role run with other settings, which cannot fail; the node has them by then.

        They differ in what is live (`config.changes.LIVE`). Who asks the node whenever it needs them has nothing to do.
        Raises `SettingsError` for settings that the role cannot run with; nothing has changed then.
        """
        return _nothing

    def wake(self) -> None:
        """Look for work now instead of at the next poll."""

    def sweeps(self) -> Sequence[Sweep]:
        """Return what the clock has to run while this role runs; asked for once, after the start."""
        return ()


def _nothing() -> None:
    """Do nothing."""
