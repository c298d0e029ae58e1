"""The certificate that the API shows: read again when its files change, so that a renewal needs no restart.

A new pair that cannot be used changes nothing: the one before is shown on, and the log, the status and `doctor` say so.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from dicom_node.config.incoming import ApiSettings
from dicom_node.config.section import require_private
from dicom_node.core.calls.limits import CERTIFICATE_RENEWED_BEFORE
from dicom_node.core.errors import SettingsError
from dicom_node.receive.acceptor.transport import tls_context

_LOOK_EVERY_S = 1.0
_TELL_EVERY_S = 24 * 3600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CertificateState:
    """Until when the certificate is valid that is shown; and why newer files are not used, "" when they are."""

    valid_until: datetime
    problem: str


class ShownCertificate:
    """The files of one listener and the TLS context made of them; safe to share between threads."""

    def __init__(self, settings: ApiSettings, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Raises `SettingsError` when the files cannot be used."""
        self._settings = settings
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._seen, self._looked_at, self._told_at = self._signature(), clock_s(), -_TELL_EVERY_S
        try:
            self._context, valid_until = self._load()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"api.certificate, api.private_key or api.ca cannot be used ({_why(error)}). Give PEM files that the "
                "node may read and that belong together."
            ) from error
        self._state = CertificateState(valid_until, "")
        self._tell_of_its_end()

    def context(self) -> ssl.SSLContext:
        """Return the context of the next handshake."""
        self.look()
        return self._context

    def state(self) -> CertificateState:
        """Return what is shown, and whether it is what lies in the files."""
        self.look()
        return self._state

    def look(self) -> None:
        """Take the files again if they have changed, looking once a second at most; warn of a near end once a day."""
        with self._lock:
            if self._clock_s() - self._looked_at < _LOOK_EVERY_S:
                return
            self._looked_at = self._clock_s()
            signature = self._signature()
            if signature != self._seen:
                self._seen = signature
                self._renew()
            self._tell_of_its_end()

    def _renew(self) -> None:
        try:
            context, valid_until = self._load()
            if valid_until < datetime.now(UTC) < self._state.valid_until:
                raise ValueError(f"the new certificate has ended, on {valid_until:%Y-%m-%d}")
        except (OSError, ValueError) as error:
            self._state = CertificateState(self._state.valid_until, f"The new files cannot be used: {_why(error)}.")
            _log.error("new certificate of the API is not used, the one before is", extra={"why": _why(error)})
        else:
            self._context, self._state = context, CertificateState(valid_until, "")
            self._told_at = -_TELL_EVERY_S
            _log.info("new certificate of the API", extra={"valid_until": valid_until.isoformat()})

    def _load(self) -> tuple[ssl.SSLContext, datetime]:
        one = self._settings
        if one.private_key:
            require_private(one.private_key)
        certificate, private_key, ca = (str(file or "") for file in _files(one))
        context = tls_context(certificate, private_key, ca, one.client_certificate)
        context.set_alpn_protocols(["http/1.1"])
        shown = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]  # the first is the node's own
        return context, shown.not_valid_after_utc

    def _tell_of_its_end(self) -> None:
        left = self._state.valid_until - datetime.now(UTC)
        if left < CERTIFICATE_RENEWED_BEFORE and self._clock_s() - self._told_at >= _TELL_EVERY_S:
            self._told_at = self._clock_s()
            _log.warning("certificate of the API must be renewed", extra={"days_left": left.days})

    def _signature(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(_signature(file) for file in _files(self._settings) if file)


def _files(settings: ApiSettings) -> tuple[Path | None, Path | None, Path | None]:
    return settings.certificate, settings.private_key, settings.ca


def _signature(file: Path) -> tuple[int, ...] | None:
    """Return what changes with a file, also when a link leads to another one, or its rights change."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _why(error: Exception) -> str:
    """Say what is wrong with the files."""
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'no PEM'}".lower().replace("_", " ")
    return str(error.strerror if isinstance(error, OSError) else error)
