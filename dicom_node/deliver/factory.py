"""Make the sender that a configured destination needs."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from dicom_node.config.incoming import DicomTlsSettings
from dicom_node.config.outgoing import DestinationSettings
from dicom_node.core.errors import SettingsError
from dicom_node.deliver.kinds.dicom import DicomSender
from dicom_node.deliver.kinds.dicomweb import DicomWebSender
from dicom_node.deliver.kinds.fhir import FhirSender
from dicom_node.deliver.kinds.folder import FolderSender
from dicom_node.deliver.outgoing import Sender
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.tls import tls_of

_NO_TLS = DicomTlsSettings()


class BearerAuth(httpx.Auth):
    """Sends a bearer token with every request (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header; there is no challenge to answer."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def make_sender(
    destination: DestinationSettings, calling_ae_title: str, timeout_s: float, own_tls: DicomTlsSettings = _NO_TLS
) -> Sender:
    """Return the sender for `destination`; nothing is opened yet.

    Raises `SettingsError` when a setting its kind needs is empty or its address cannot be one.
    """
    if destination.kind == "dicom" and destination.ae_title:
        return DicomSender(remote_of(destination, calling_ae_title, timeout_s, own_tls))
    if destination.kind == "dicomweb":
        return DicomWebSender(_web_address(destination), authentication(destination), timeout_s)
    if destination.kind == "fhir":
        return FhirSender(_web_address(destination), authentication(destination), timeout_s, destination.patient)
    if destination.kind == "folder" and destination.path is not None:
        return FolderSender(destination.path)
    raise SettingsError(f"Destination {destination.name!r} of kind {destination.kind} lacks a setting its kind needs.")


def remote_of(
    destination: DestinationSettings, calling_ae_title: str, timeout_s: float, own_tls: DicomTlsSettings
) -> Remote:
    """Return how a destination of kind ``dicom`` is called; `own_tls` says what the node shows, if it speaks TLS."""
    called, tls = destination.ae_title or "", tls_of(destination, own_tls)
    return Remote(destination.host, destination.port, called, calling_ae_title, timeout_s, tls)


def authentication(destination: DestinationSettings) -> httpx.Auth | None:
    """Return how to log in: the token if there is one, else user and password, else not at all."""
    if destination.token is not None:
        return BearerAuth(destination.token.get_secret_value())
    if destination.username:
        password = destination.password.get_secret_value() if destination.password else ""
        return httpx.BasicAuth(destination.username, password)
    return None


def _web_address(destination: DestinationSettings) -> str:
    """Return the url. User and password have settings of their own: addresses end up in logs."""
    try:
        url = httpx.URL(destination.url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"Destination {destination.name!r}: url is not an address.") from error
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        raise SettingsError(
            f"Destination {destination.name!r}: url must begin with https:// (or http://), name a host, and hold no "
            "user or password; set token, or username and password, beside it."
        )
    return destination.url
