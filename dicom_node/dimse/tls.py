"""TLS on associations that the node opens (PS3.15 B.12; BCP 195, RFC 9325)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config.incoming import DicomTlsSettings
from dicom_node.config.peers import DicomPeer

#: Instead of a name: any certificate that the authorities signed will do.
ANY_NAME = "*"


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom to trust, and what to show. No `ca`: the system's authorities; no `certificate`: the node shows none."""

    server_name: str
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a client's context: TLS 1.2 or newer, forward secrecy, the peer's certificate always verified.

        Made for each connection, so that a renewed certificate needs no restart. Raises `OSError` (`ssl.SSLError`
        among them) when a file cannot be used.
        """
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL")
        context.check_hostname = self.server_name != ANY_NAME
        if self.certificate:
            # A key under a passphrase is an error here; without the argument OpenSSL would ask on the terminal.
            context.load_cert_chain(self.certificate, self.private_key, password="")
        return context


def tls_of(peer: DicomPeer, own: DicomTlsSettings) -> Tls | None:
    """Return how a configured peer is called; `own` is what the node shows and, by default, trusts."""
    if not peer.tls:
        return None
    shown = (peer.client_certificate, None) if peer.client_certificate else (own.certificate, own.private_key)
    return Tls(peer.tls_server_name or peer.host, peer.tls_ca or own.ca, *shown)
