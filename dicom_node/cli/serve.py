"""`dicom-node serve`: run the node until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import threading

from dicom_node.end import End
from dicom_node.receive.start import start_acceptor
from dicom_node.roles.settings import load_settings

#: Beginnings of the names of the threads without which the node is not a node.
OWN_THREADS = ("job-runner", "outbox-", "consumer", "acceptor")
_log = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> int:
    """Run the roles until SIGTERM or SIGINT."""
    settings = load_settings(options.config)
    receives = not options.role or "receive" in options.role
    acceptor = start_acceptor(settings) if receives else None
    # Only now what takes its time to load: the acceptor serves meanwhile.
    from dicom_node.app import ROLES, Service  # noqa: PLC0415
    from dicom_node.logs import configure_logs  # noqa: PLC0415
    from dicom_node.roles.node import Node  # noqa: PLC0415

    configure_logs(settings.node.log_level)
    for text in settings.remarks:
        _log.warning("settings", extra={"why": text})
    end = End()
    failed = _watch_own_threads(end)
    service = Service(Node(settings), options.role or ROLES, acceptor)
    try:
        service.start()
        end.wait()
    finally:
        service.stop()
    return 1 if failed.is_set() else 0


def _watch_own_threads(end: End) -> threading.Event:
    """End the node when one of its own threads dies, so that a supervisor restarts it; half a node is worse than none.

    Threads that serve peers are not meant: what a peer sends must never end the node.
    """
    failed = threading.Event()

    def on_death(death: threading.ExceptHookArgs) -> None:
        name = death.thread.name if death.thread else "?"
        exc_info = (death.exc_type, death.exc_value or death.exc_type(), death.exc_traceback)
        if name.startswith(OWN_THREADS):
            failed.set()
            end.ask()
        _log.critical("thread died", extra={"who": name}, exc_info=exc_info)

    threading.excepthook = on_death
    return failed
