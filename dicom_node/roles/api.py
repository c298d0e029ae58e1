"""The role `api`: the page and the addresses people and programs use, with uploads and retrievals behind them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from dicom_node import __version__
from dicom_node.api.access import load_or_create_token
from dicom_node.api.front.connections import ConnectionLimits
from dicom_node.api.front.patience import Patience
from dicom_node.api.front.tls import ShownCertificate
from dicom_node.api.parts import ApiParts
from dicom_node.api.server import ApiServer, create_app
from dicom_node.api.shown_patients import ShownPatients
from dicom_node.config.settings import Settings
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.calls.limits import Networks
from dicom_node.core.errors import Conflict, SettingsError
from dicom_node.core.principal import NODE, UserRole
from dicom_node.governance.standing import model_views
from dicom_node.headers.demographics import DemographicsReader
from dicom_node.people.directory import People
from dicom_node.receive.associations import AssociationSweep
from dicom_node.receive.refusals import RefusedContexts, kept_in
from dicom_node.receive.start import not_taken_file
from dicom_node.retrieve.kinds import make_sources
from dicom_node.retrieve.retrievals import RetrievalMemory, open_retrievals
from dicom_node.roles.node import Node
from dicom_node.roles.readiness import roles_not_at_work
from dicom_node.roles.role import Role, Sweep
from dicom_node.storage.folder import make_private
from dicom_node.viewing.readers import ImageReaders

_log = logging.getLogger(__name__)
_ASSOCIATIONS_EVERY_S = 10.0
_PARTS_EVERY_S = 600.0
_CERTIFICATE_EVERY_S = 10.0


class ApiRole(Role):
    """Serves the API, unless the settings say no."""

    def __init__(self, node: Node, wake_all: Callable[[], None]) -> None:
        """Raises `SettingsError` for a source, or a certificate of the API, that cannot be used."""
        super().__init__(node, wake_all)
        # A name of its own: a receiver that starts again must not close the associations of uploads and retrievals.
        receiver_id = f"pull:{node.receiver_id}"[:64]
        self._associations = AssociationSweep(node.database, receiver_id)
        memory = RetrievalMemory(node.database, receiver_id)
        self._retrievals = open_retrievals(node.settings, node.sink_parts(receiver_id), memory)
        self._ingest = node.open_ingest(receiver_id)
        self._images = ImageReaders(node.work_dir / "viewing", node.spool.objects)
        self._demographics = DemographicsReader()
        api = node.settings.api
        self._certificate = ShownCertificate(api) if api.enabled and api.certificate else None
        self._server: ApiServer | None = None

    def start(self) -> Mapping[str, int]:
        """Return when the API answers; a new token is shown to whoever started the node on a terminal."""
        node = self._node
        if not node.settings.api.enabled:
            return {}
        make_private(node.work_dir.parent)
        make_private(node.work_dir)
        self._associations.forget_own()
        self._retrievals.take_up()
        api = node.settings.api
        limits = ConnectionLimits(
            api.max_connections,
            api.max_connections_per_address,
            Networks(api.trusted_proxies),
            Patience(api.request_timeout_s, api.handshake_timeout_s),
            None if self._certificate is None else self._certificate.context,
        )
        self._add_first_administrator()
        self._server = ApiServer(create_app(self._parts()), api.host, api.port, limits)
        self._server.start()
        self._demographics.warm_up()
        return {"api": self._server.port}

    def prepared(self, wanted: Settings) -> Callable[[], None]:
        """Answer by the new settings from the next request on, and fetch from the new sources."""
        sources = make_sources(wanted)

        def begin() -> None:
            self._retrievals.sources = sources
            if self._server is not None:
                self._server.use(wanted)

        return begin

    def stop(self) -> None:
        """End retrievals where they are, finish the answers under way, and close the port."""
        self._retrievals.stop()
        if self._server is not None:
            self._server.stop()
        self._ingest.close()
        self._images.close()
        self._demographics.close()

    def sweeps(self) -> Sequence[Sweep]:
        """Keep the record of this role's associations honest, and remove what broken uploads left."""
        if self._server is None:
            return ()
        certificates = [] if self._certificate is None else [self._certificate.look]
        return (
            *(Sweep("certificate", look, _CERTIFICATE_EVERY_S) for look in certificates),
            Sweep("pulls", self._associations.run, _ASSOCIATIONS_EVERY_S),
            Sweep("parts", self._node.spool.remove_abandoned_parts, _PARTS_EVERY_S),
        )

    def _parts(self) -> ApiParts:
        node = self._node
        return ApiParts(
            database=node.database,
            settings=node.settings,
            open_object=node.spool.path,
            models=lambda: model_views(node.cards, node.admission),
            routes=node.in_force,
            cards=node.cards,
            wake=self._wake_all,
            token_digest=self._token_digest(),
            audit=node.audit,
            receiver_ready=lambda: node.acceptor is None or node.acceptor.is_serving,
            roles_not_at_work=lambda: roles_not_at_work(node.owners),
            refused_contexts=lambda: _not_taken(node),
            retrievals=self._retrievals,
            ingest=self._ingest,
            version=__version__,
            clock=node.clock.state,
            search_keys=node.search_keys,
            patients=ShownPatients(node.spool.path, self._demographics.read),
            certificate=lambda: None if self._certificate is None else self._certificate.state(),
            images=self._images,
            metrics=node.metrics,
            configuration=node.configuration,
        )

    def _add_first_administrator(self) -> None:
        """Add who is named in a file, unless somebody administers the node already."""
        path = self._node.settings.people.first_admin_file
        accounts = People.of(self._node.database, self._node.settings.people).accounts
        if path is None or accounts.has_administrator():
            return
        try:
            name, password = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{path} cannot be used ({type(error).__name__}). people.first_admin_file names a text file of two "
                "lines: the name of the first administrator, and their password."
            ) from error
        try:
            accounts.add(name.strip(), [UserRole.ADMIN], password)
        except Conflict as conflict:  # another process of this node was quicker, or the name is somebody's
            _log.warning("first administrator not added", extra={"why": str(conflict)})
        else:
            detail = {"account": name.strip(), "what": "added", "given": [UserRole.ADMIN]}
            self._node.audit.note(AuditedEvent(act=AuditedAct.ACCOUNT_CHANGED, actor=NODE, detail=detail))

    def _token_digest(self) -> str:
        settings = self._node.settings
        token_file = settings.api.token_file or settings.node.data_dir / "api-token"
        token, digest = load_or_create_token(token_file)
        if token is None:
            return digest
        _log.info("API token made", extra={"file": str(token_file)})
        if sys.stdout.isatty():  # anything else may be a log, which would carry it to strangers
            # With its line's end in it: a line of the log may come between two writes.
            print(f"API token (shown once, kept in {token_file}): {token}\n", end="", flush=True)  # noqa: T201
        return digest


def _not_taken(node: Node) -> Sequence[RefusedContexts]:
    """Return what peers could not send: to the receiver of this process by now, to others of the node lately."""
    own = not_taken_file(node.settings)
    return kept_in(own.parent, {} if node.acceptor is None else {own: node.acceptor.refusals.latest()})
