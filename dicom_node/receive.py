"""The DICOM listener: pynetdicom's acceptor in front of `Intake`. The one module a faster acceptor will replace.

C-ECHO and C-STORE for every storage SOP class and every transfer syntax but deflated (a small deflated data set can
hold the processor for minutes).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.config.settings import DicomSettings, Peer
from dicom_node.errors import IndexUnavailable
from dicom_node.headers import StoreStatus
from dicom_node.index.database import Database
from dicom_node.index.intake import close_association
from dicom_node.intake import Intake, Received
from dicom_node.model import Sender
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

TRANSFER_SYNTAXES = [syntax for syntax in AllTransferSyntaxes if not syntax.is_deflated]

#: A-ASSOCIATE-RJ (PS3.8 9.3.4): permanent, service user, calling AE title not recognised; transient, congestion.
_UNKNOWN_CALLER = (0x01, 0x01, 0x03)
_CONGESTED = (0x02, 0x03, 0x01)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Carried:
    """What one open association is known by."""

    sender: Sender
    association_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    stored: bool = False


class _Server(ThreadedAssociationServer):
    """pynetdicom's server on a socket that listens already, without Nagle's delay."""

    def __init__(self, *arguments: Any, listener: socket.socket, **options: Any) -> None:
        self._listener = listener
        super().__init__(*arguments, **options)

    def server_bind(self) -> None:
        """Take the given socket in place of a new one."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._listener
        self.server_address = self._listener.getsockname()

    def server_activate(self) -> None:
        """Do nothing: it listens since before."""

    def get_request(self) -> Any:
        """Accept the next connection."""
        request, address = super().get_request()
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return request, address


class Receiver:
    """Listens, admits peers, and hands every object to `Intake`."""

    def __init__(
        self, settings: DicomSettings, ae_title: str, peers: Sequence[Peer], intake: Intake, database: Database
    ) -> None:
        self._settings = settings
        self._peers = [(peer.ae_title, ipaddress.ip_network(peer.host, strict=False)) for peer in peers]
        self._intake = intake
        self._database = database
        self._carried: dict[int, _Carried] = {}
        self._ae = _application_entity(ae_title, settings)
        self._server: Any = None

    def start(self, listener: socket.socket) -> int:
        """Serve those who connect to `listener`; return its port."""
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_RELEASED, lambda event: self._on_end(event, "released")),
            (evt.EVT_ABORTED, lambda event: self._on_end(event, "aborted")),
            (evt.EVT_CONN_CLOSE, lambda event: self._on_end(event, "closed")),
        ]
        address = listener.getsockname()
        self._server = self._ae.make_server(
            address, evt_handlers=handlers, server_class=_Server, request_handler=None, listener=listener
        )
        self._ae._servers.append(self._server)  # as `start_server` does, which cannot be given a socket
        threading.Thread(target=self._server.serve_forever, name="dicom-listener", daemon=True).start()
        return int(address[1])

    def stop(self) -> None:
        """Stop listening and end open associations; what was acknowledged stays."""
        if self._server is not None:
            self._ae.shutdown()
            self._server = None

    def is_listening(self) -> bool:
        """Tell whether peers can connect."""
        return self._server is not None

    def _on_requested(self, event: Any) -> None:
        sender = _sender(event.assoc)
        if not self._is_admitted(sender):
            who = {"calling_ae_title": sender.calling_ae_title, "host": sender.host}
            _log.warning("association rejected", extra=who | {"why": "not in the list of peers"})
            _reject(event.assoc, _UNKNOWN_CALLER)
        elif not self._intake.has_room():
            _log.error("association rejected", extra={"calling_ae_title": sender.calling_ae_title, "why": "disk full"})
            _reject(event.assoc, _CONGESTED)
        else:
            self._carried[id(event.assoc)] = _Carried(sender)

    def _is_admitted(self, sender: Sender) -> bool:
        if not self._peers:
            return True
        address = ipaddress.ip_address(sender.host)
        return any(sender.calling_ae_title == ae_title and address in network for ae_title, network in self._peers)

    def _on_store(self, event: Any) -> int:
        carried = self._carried[id(event.assoc)]
        carried.stored = True
        request = event.request
        try:
            return self._intake.store(
                Received(
                    sop_class_uid=str(request.AffectedSOPClassUID),
                    sop_instance_uid=str(request.AffectedSOPInstanceUID),
                    transfer_syntax_uid=str(event.context.transfer_syntax),
                    data_set=request.DataSet.getbuffer(),
                    sender=carried.sender,
                    association_id=carried.association_id,
                )
            )
        except Exception:  # noqa: BLE001 - the C-STORE door: the peer gets an answer and keeps its image
            _log.exception("storing failed unexpectedly", extra={"calling_ae_title": carried.sender.calling_ae_title})
            return StoreStatus.PROCESSING_FAILURE

    def _on_end(self, event: Any, outcome: str) -> None:
        carried = self._carried.pop(id(event.assoc), None)
        if carried is None or not carried.stored:
            return
        try:
            with self._database.write() as connection:
                close_association(connection, carried.association_id, outcome, datetime.now(UTC))
        except IndexUnavailable as error:  # the sweep closes it later, when it has fallen silent
            _log.warning("end of association not noted", extra={"why": str(error)})


def _application_entity(ae_title: str, settings: DicomSettings) -> AE:
    _config.LOG_REQUEST_IDENTIFIERS = False  # they hold patient data
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.UNRESTRICTED_STORAGE_SERVICE = settings.accept_any_sop_class
    ae = AE(ae_title=ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.require_called_aet = True
    ae.maximum_associations = settings.max_associations
    ae.maximum_pdu_size = settings.max_pdu_bytes
    ae.network_timeout = settings.network_timeout_s
    ae.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), TRANSFER_SYNTAXES)
    return ae


def _sender(association: Any) -> Sender:
    request = association.requestor.primitive
    return Sender(request.calling_ae_title.strip(), request.called_ae_title.strip(), str(association.requestor.address))


def _reject(association: Any, reason: tuple[int, int, int]) -> None:
    association.acse.send_reject(*reason)
    association.kill()
