"""`dicom-node serve`: run the node until it is told to stop."""

from __future__ import annotations

import argparse
import logging

from dicom_node.end import End, Hangup
from dicom_node.logs import configure_logs
from dicom_node.memory import share_one_heap
from dicom_node.receive.start import start_acceptor
from dicom_node.roles.settings import load_settings

_log = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> int:
    """Run the roles until SIGTERM or SIGINT, and read the settings again on SIGHUP.

    The exit status is 1 when a thread the node cannot do without died.
    """
    hangup = Hangup()  # before the settings are read: what is asked from now on is done
    share_one_heap()
    settings = load_settings(options.config)
    receives = not options.role or "receive" in options.role
    acceptor = start_acceptor(settings) if receives else None
    # Only now what takes its time to load: the acceptor serves meanwhile.
    from dicom_node.app import Service  # noqa: PLC0415
    from dicom_node.cli.access.people import ask_first_administrator  # noqa: PLC0415
    from dicom_node.people.directory import People  # noqa: PLC0415
    from dicom_node.roles.node import Node  # noqa: PLC0415

    configure_logs(settings.node.log_level)
    for text in settings.remarks:
        _log.warning("settings", extra={"why": text})
    node = Node(settings, acceptor, options.config)
    if settings.api.enabled and (not options.role or "api" in options.role):
        ask_first_administrator(People.of(node.database, settings.people), settings, node.audit)
    end = End(hangup)
    service = Service(node, options.role or (), hangup.count)
    try:
        service.start()
        end.wait()
    finally:
        service.stop()
    return 1 if end.is_failure else 0
