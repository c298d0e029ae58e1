"""Make the source that the configuration describes."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from pyorthanc import Orthanc

from dicom_node.config.incoming import SourceSettings
from dicom_node.config.settings import Settings
from dicom_node.core.errors import SettingsError
from dicom_node.deliver.factory import BearerAuth
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.tls import tls_of
from dicom_node.retrieve.dicomweb import DicomWebSource
from dicom_node.retrieve.dimse import DimseSource
from dicom_node.retrieve.orthanc import OrthancSource
from dicom_node.retrieve.source import Source


def make_sources(settings: Settings) -> Mapping[str, Source]:
    """Return every configured source by name; nothing is opened yet. Raises `SettingsError`."""
    return {one.name: _make(one, settings) for one in settings.source}


def _make(source: SourceSettings, settings: Settings) -> Source:
    if source.kind == "dimse" and source.ae_title:
        own_ae_title, tls = settings.node.ae_title, tls_of(source, settings.dicom_tls)
        remote = Remote(source.host, source.port, source.ae_title, own_ae_title, source.timeout_s, tls)
        destination = (source.move_destination or own_ae_title) if source.retrieve == "move" else ""
        return DimseSource(source.name, remote, destination)
    url, auth = _web_address(source), _authentication(source)
    if source.kind == "orthanc":

        def open_orthanc() -> Orthanc:
            client = Orthanc(url, timeout=source.timeout_s, follow_redirects=False)
            client.auth = auth
            return client

        return OrthancSource(source.name, url, open_orthanc)
    return DicomWebSource(
        source.name, url, lambda: httpx.Client(auth=auth, timeout=source.timeout_s, follow_redirects=False)
    )


def _authentication(source: SourceSettings) -> httpx.Auth | None:
    """Return how to log in: the token if there is one, else user and password, else not at all."""
    if source.token is not None:
        return BearerAuth(source.token.get_secret_value())
    if source.username:
        return httpx.BasicAuth(source.username, source.password.get_secret_value() if source.password else "")
    return None


def _web_address(source: SourceSettings) -> str:
    """Return the url. User and password have settings of their own: addresses end up in logs."""
    try:
        url = httpx.URL(source.url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"Source {source.name!r}: url is not an address.") from error
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        raise SettingsError(
            f"Source {source.name!r}: url must begin with https:// (or http://), name a host, and hold no user or "
            "password; set token, or username and password, beside it."
        )
    return source.url.rstrip("/")
