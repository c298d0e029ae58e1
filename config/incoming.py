"""Sections on how studies come: the DICOM ports and who may use them, the API, watched folders, sources."""

from __future__ import annotations

import codecs
import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from dicom_node.config.section import AeTitle, KeyFile, Port, Seconds, SecretFile, Section, SiteFile, SitePath, refused


def _sha256(text: str) -> str:
    if not re.fullmatch("([0-9a-f]{64})?", text):
        raise ValueError("give the 64 hexadecimal digits, in small letters and without colons")
    return text


#: What `host` of a peer is when it may come from everywhere.
ANY_ADDRESS = "any"
#: Name of the folder below `node.data_dir` in which a receiver keeps its journal.
DEFAULT_JOURNAL = "journal"


class DicomSettings(Section):
    host: str = Field("127.0.0.1", description="Address the DICOM listener binds; `::`: all, of IPv4 and of IPv6.")
    port: Port = Field(11112, description="Port of the DICOM listener.")
    plain: bool = Field(True, description="Listen without TLS; `false` leaves only the TLS listener.")
    max_associations: int = Field(64, ge=1, description="Associations served at once.")
    max_associations_per_peer: int = Field(
        32, ge=1, description="Those of one address; where peers are listed, never more than are free for others."
    )
    max_pdu_bytes: int = Field(131072, ge=16384, le=1 << 20, description="Largest PDU offered to peers.")
    max_object_mb: int = Field(4096, ge=1, description="Largest object accepted.")
    network_timeout_s: Seconds = Field(60, description="Idle time after which an association is aborted.")
    pdu_timeout_s: Seconds = Field(
        30, description="Longest time a connection's first request, or any PDU once it has begun, may take."
    )
    journal_mb: int = Field(
        1024,
        ge=4,
        description="Disk for objects answered and not yet filed; a quarter of what is free at most.",
    )
    journal: str = Field(
        DEFAULT_JOURNAL,
        min_length=1,
        description="Folder of the journal, below `node.data_dir` or absolute. Receivers that share a data folder have "
        "one each.",
    )
    accept_any_sop_class: bool = Field(False, description="Accept private and unknown storage SOP classes too.")
    commitment_retry_h: float = Field(
        24,
        gt=0,
        le=876600,
        allow_inf_nan=False,
        description="How long the outcome of a storage commitment is offered to a peer that is away.",
    )


class DicomTlsSettings(Section):
    host: str = Field("", description="Address the TLS listener binds; empty: `dicom.host`.")
    port: Port = Field(2762, description="Port of the TLS listener.")
    certificate: SiteFile | None = Field(
        None, description="The node's certificate chain (PEM); setting it turns TLS on."
    )
    private_key: SiteFile | None = Field(
        None, description="Its private key (PEM); none: it is in the certificate's file."
    )
    ca: SiteFile | None = Field(
        None, description="Certificates (PEM) of the authorities that sign peers' certificates."
    )
    client_certificate: Literal["required", "optional", "none"] = Field(
        "required", description="Whether a peer must show a certificate signed by `ca`."
    )
    handshake_timeout_s: Seconds = Field(10, description="Longest time a TLS handshake may take.")

    @model_validator(mode="after")
    def _peers_can_be_verified(self) -> Self:
        if self.certificate and self.client_certificate != "none" and not self.ca:
            raise refused("ca", 'set it, or client_certificate = "none" if peers need not show one')
        return self


class AeSettings(Section):
    ae_title: AeTitle = Field(description="A further AE title the node answers to, besides `node.ae_title`.")
    peers: tuple[AeTitle, ...] = Field((), description="Calling AE titles let in here; empty: every `[[peer]]`.")
    tls: bool = Field(False, description="Let peers in over TLS only.")
    accept_any_sop_class: bool = Field(False, description="Accept private and unknown storage SOP classes too.")


def _network(host: str) -> str:
    try:
        _ = host == ANY_ADDRESS or ipaddress.ip_network(host, strict=False)
    except ValueError as error:
        raise ValueError(
            "give an IP address, a network such as 10.1.2.0/24, or any; names are not looked up"
        ) from error
    return host


def _networks(host: str) -> tuple[str, ...]:
    return ("0.0.0.0/0", "::/0") if host == ANY_ADDRESS else (host,)


class Peer(Section):
    ae_title: AeTitle = Field(description="Calling AE title that may send.")
    host: Annotated[str, AfterValidator(_network)] = Field(
        ANY_ADDRESS,
        description="Address or network (CIDR) it may come from; `any`: every address, of IPv4 and of IPv6.",
    )
    tls: bool = Field(False, description="Let it in over TLS only.")
    certificate_sha256: Annotated[str, AfterValidator(_sha256)] = Field(
        "", description="SHA-256 of the certificate (DER, hex) it must show; none: any."
    )
    port: Port | None = Field(None, description="Port of its own listener, for outcomes of storage commitment.")
    port_tls: bool = Field(
        False, description="Speak TLS there; its certificate must be signed by an authority of `dicom_tls.ca`."
    )

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks (CIDR) it may come from."""
        return _networks(self.host)


class User(Section):
    name: str = Field(min_length=1, description="User name that a peer must give (user identity negotiation).")
    password: SecretStr = Field(SecretStr(""), description="Its passcode; none: the name alone is enough.")
    password_file: SecretFile | None = Field(None, description="File that holds the passcode instead.")


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise ValueError("give a character set by its name, utf-8 or iso8859-1") from error


def _field(place: str) -> str:
    if not re.fullmatch(r"(ORC|OBR)-\d{1,2}", place):
        raise ValueError("name a field of ORC or OBR, OBR-18")
    return place


class Hl7Peer(Section):
    host: Annotated[str, AfterValidator(_network)] = Field(
        description="Address or network (CIDR) it may come from; `any`: every address, of IPv4 and of IPv6."
    )
    application: str = Field("", description="Sending application (MSH-3) it must give; none: any.")
    facility: str = Field("", description="Sending facility (MSH-4) it must give; none: any.")
    character_set: Annotated[str, AfterValidator(_codec)] = Field(
        "utf-8", description="In which character set it writes what states none in MSH-18."
    )
    certificate_sha256: Annotated[str, AfterValidator(_sha256)] = Field(
        "", description="SHA-256 of the certificate (DER, hex) it must show; none: any."
    )

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks (CIDR) it may come from."""
        return _networks(self.host)


class Hl7Settings(Section):
    host: str = Field("127.0.0.1", description="Address the HL7 listener (MLLP) binds.")
    port: Port | None = Field(None, description="Port of the HL7 listener; none: the node hears no HL7.")
    certificate: SiteFile | None = Field(
        None, description="The listener's certificate chain (PEM); setting it makes the listener one of TLS."
    )
    private_key: SiteFile | None = Field(
        None, description="Its private key (PEM); none: it is in the certificate's file."
    )
    ca: SiteFile | None = Field(
        None, description="Certificates (PEM) of the authorities that sign senders' certificates."
    )
    client_certificate: Literal["required", "optional", "none"] = Field(
        "required", description="Whether a sender must show a certificate signed by `ca`; of a TLS listener."
    )
    patient_authority: str = Field(
        "", max_length=64, description="Assigning authority (CX.4) of numbers that name none, those of images, too."
    )
    accession_field: Annotated[str, AfterValidator(_field)] = Field(
        "OBR-18", description="Where orders have the accession number that images carry; IPC-1 goes first."
    )
    application: str = Field("", description="Application (MSH-3) of the node's answers; none: `node.ae_title`.")
    facility: str = Field("", description="Facility (MSH-4) of the node's answers.")
    max_connections: int = Field(32, ge=1, le=1024, description="Connections held at once.")
    max_connections_per_peer: int = Field(8, ge=1, description="Those of one address.")
    max_message_kb: int = Field(1024, ge=4, le=65536, description="Largest message.")
    message_timeout_s: Seconds = Field(30, description="Longest time a message may take once it has begun.")
    idle_timeout_s: Seconds = Field(900, description="Idle time after which a connection is closed.")
    keep_days: float = Field(
        90, gt=0, le=36600, description="How long orders and what was stated of patients are kept after they came last."
    )
    peer: tuple[Hl7Peer, ...] = Field((), description="Who may send.")

    @model_validator(mode="after")
    def _senders_can_be_verified(self) -> Self:
        if self.certificate and self.client_certificate != "none" and not self.ca:
            raise refused("ca", 'set it, or client_certificate = "none" if senders need not show one')
        return self

    @model_validator(mode="after")
    def _numbers_have_an_authority(self) -> Self:
        if self.port is not None and not self.patient_authority:
            raise refused("patient_authority", "say who gives out the patient numbers of images: PID-3.4 of messages")
        return self


def _cidr(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError("give an IP address, or a network such as 10.1.2.0/24; names are not looked up") from error
    return text


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", text):
        raise ValueError("give a host name without scheme, port and path, node.hospital.example")
    return text


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", text):
        raise ValueError("give scheme and host in small letters as browsers write them, https://viewer.example")
    return text


class ApiSettings(Section):
    enabled: bool = Field(True, description="Serve the admin API and page.")
    host: str = Field("127.0.0.1", description="Address the API binds.")
    port: Port = Field(8042, description="Port of the API and page.")
    max_connections: int = Field(256, ge=1, description="Connections held at once; one that asks nothing makes room.")
    max_connections_per_address: int = Field(
        128, ge=1, description="Those of one address; behind a reverse proxy that is everybody."
    )
    token_file: SiteFile | None = Field(None, description="File with the API token; default: generated in `data_dir`.")
    certificate: SiteFile | None = Field(
        None, description="The API's certificate chain (PEM); setting it makes it one of TLS. A new file is noticed."
    )
    private_key: KeyFile | None = Field(
        None, description="Its private key (PEM); none: it is in the certificate's file."
    )
    ca: SiteFile | None = Field(
        None, description="Certificates (PEM) of the authorities that sign clients' certificates."
    )
    client_certificate: Literal["required", "optional", "none"] = Field(
        "none", description="Whether a client must show a certificate signed by `ca`, besides its token or session."
    )
    handshake_timeout_s: Seconds = Field(10, description="Longest time a TLS handshake may take.")
    hsts_days: int = Field(
        365,
        ge=0,
        le=3650,
        description="How long browsers that came by TLS come by nothing else to this host name; 0: no word.",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_cidr)], ...] = Field(
        (), description="Addresses or networks (CIDR) of proxies that are believed when they tell who the client is."
    )
    hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = Field(
        (),
        description="Host names the API goes by, besides addresses and localhost; none: on loopback those of proxies, "
        "beyond it any.",
    )
    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        (), description="Origins whose pages may use the API with a token of their own, `https://viewer.example`."
    )
    request_timeout_s: Seconds = Field(
        20, description="Longest time a request's head, or a body that is no study, may take."
    )
    requests_per_minute: int = Field(
        12000,
        ge=0,
        description="Requests of one person or key; an address that shows neither has a tenth. 0: no limit.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if not self.certificate and (self.private_key or self.client_certificate != "none"):
            raise refused("certificate", "set it: without it the API speaks no TLS")
        if self.client_certificate != "none" and not self.ca:
            raise refused("ca", 'set it, or client_certificate = "none" if clients need not show one')
        return self


class MetricsSettings(Section):
    host: str = Field("127.0.0.1", description="Address the port of metrics binds.")
    port: Port | None = Field(
        None, description="Port that serves `/metrics` without sign-in; none: only the API's serves them, to a key."
    )
    allow: tuple[Annotated[str, AfterValidator(_cidr)], ...] = Field(
        (), description="Addresses or networks (CIDR) that may ask there; none: whoever reaches it, on loopback only."
    )


class ViewerSettings(Section):
    ohif: SitePath | None = Field(
        None, description="Folder with the published build of OHIF, served at `/viewer`; `make viewer` fetches one."
    )
    public_url: str = Field(
        "",
        description="Address of the node as browsers know it, `https://ai.hospital.example`; results that go to an EHR "
        "or RIS link to their images there. Empty: `oidc.public_url`.",
    )

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        return _origin(url.rstrip("/")) if url else url


class PeopleSettings(Section):
    idle_minutes: int = Field(30, ge=1, le=1440, description="A session ends when nobody has used it for this long.")
    session_hours: float = Field(
        12, gt=0, le=168, allow_inf_nan=False, description="A session ends after this, however much it is used."
    )
    first_admin_file: SiteFile | None = Field(
        None,
        description="A name on one line, a password on the next: made administrator by a start that finds none; "
        "no other reads it.",
    )


class StowSettings(Section):
    enabled: bool = Field(True, description="Take studies over STOW-RS, at `/dicom-web/studies` of the API.")
    max_request_mb: int = Field(16384, ge=1, description="Largest body of one request.")
    max_parts: int = Field(20000, ge=1, description="Most objects in one request.")
    silence_s: Seconds = Field(60, description="Longest silence of a client in the middle of a body.")


class UploadSettings(Section):  # its limits on archives hold for watched folders too
    enabled: bool = Field(True, description="Take studies at `POST /api/v1/studies`: files, zip archives, pictures.")
    max_request_mb: int = Field(16384, ge=1, description="Largest body of one request.")
    max_parts: int = Field(20000, ge=1, description="Most files and fields in one form.")
    max_zip_members: int = Field(20000, ge=1, description="Most files in one zip archive.")
    max_unzipped_mb: int = Field(32768, ge=1, description="Largest content of one zip archive.")
    max_zip_ratio: int = Field(200, ge=2, description="Most times a zip archive may grow when it is unpacked.")
    max_picture_megapixels: int = Field(64, ge=1, le=256, description="Largest PNG or JPEG.")
    silence_s: Seconds = Field(60, description="Longest silence of a client in the middle of a body.")


class WatchSettings(Section):
    path: SitePath = Field(description="Folder whose files are taken in, with those of its subfolders.")
    pattern: str = Field("*", min_length=1, description="Names of files to take, `*.dcm`; case does not matter.")
    settle_s: Seconds = Field(5, description="A file that has not changed for this long is taken to be whole.")
    after: Literal["delete", "move", "keep"] = Field(
        "move", description="What becomes of a file that was taken in; `move`: into the folder `done` in `path`."
    )


class SourceSettings(Section):
    """What every source has; the kinds, with what each needs, are in `retrieve.kinds`."""

    name: str = Field(min_length=1, max_length=64, description="Name used by `dicom-node retrieve` and the API.")
    kind: str = Field(description="How studies are found and fetched there.")
    timeout_s: Seconds = Field(60, description="Longest silence of the PACS before the retrieval ends as failed.")
