"""What the settings name: destinations and sources that must answer, models that must be found and may run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from dicom_node.config.incoming import ANY_ADDRESS
from dicom_node.config.peers import DicomPeer, WebPeer
from dicom_node.config.running import RouteSettings
from dicom_node.config.section import Section
from dicom_node.config.settings import Settings
from dicom_node.core.calls.limits import CERTIFICATE_RENEWED_BEFORE
from dicom_node.core.errors import ModelUnavailable, NotFound, ProviderAway, RetrieveError, SettingsError, fault_told
from dicom_node.deliver.connections.signing_keys import key_files, read_key
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.dicom import DicomDestination
from dicom_node.deliver.kinds.hl7 import Hl7Destination
from dicom_node.deliver.kinds.kind import Answer, DestinationKind, caller_of
from dicom_node.doctor.check import TIMEOUT_S, Check
from dicom_node.governance.admission import Standing
from dicom_node.governance.standing import standing_so_far
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.folders import survey_models
from dicom_node.people.openid.provider import Provider
from dicom_node.people.openid.sign_in import CALLBACK
from dicom_node.receive.acceptor.transport import tls_context
from dicom_node.retrieve.kinds import make_sources, sources_of
from dicom_node.retrieve.source import Source, StudyQuery
from dicom_node.sandbox.confinement import lacking, told

#: An order that no PACS has; what matters is that it says so.
_NO_ORDER = StudyQuery(accession_number="DICOM-NODE-TEST")
_ADVICE = "Check the settings of this [[source]], and that the PACS allows this node to query and to retrieve."


def check_destinations(settings: Settings) -> list[Check]:
    """One check per destination; none configured is a finding too, for results then go nowhere."""
    if not settings.destination:
        advice = "Add a [[destination]]; until then results are only on the node's own page."
        return [Check("destinations", False, "none is configured", advice)]
    caller = replace(caller_of(settings), timeout_s=TIMEOUT_S)
    checks = []
    for one in destinations_of(settings):
        answer = with_reports(one.check(caller, one.wanted(settings.results.sr_sop_class)), one, settings)
        checks.append(Check(f"destination {one.name}", answer.ok, answer.text, answer.advice))
    return checks


def check_certificates(settings: Settings) -> list[Check]:
    """One check for each certificate that the node shows, before it ends, and for each key that it signs in with."""
    return [
        *(_check_certificate(f"certificate of {name}", path) for name, path in _certificates(settings)),
        *_check_pairs(settings),
        *(_check_key(f"key {path.name}", path) for path in key_files(destinations_of(settings))),
    ]


def _check_pairs(settings: Settings) -> Iterator[Check]:
    """Certificate, key and authorities of each listener fit together; told only when they do not."""
    listeners = (("dicom_tls", settings.dicom_tls), ("hl7", settings.hl7), ("api", settings.api))
    for section, one in listeners:
        if one.certificate:
            files = [str(file or "") for file in (one.certificate, one.private_key, one.ca)]
            try:
                tls_context(files[0], files[1], files[2], one.client_certificate)
            except OSError as error:
                name, text = f"key of [{section}]", f"{files[1] or files[0]} cannot be used ({fault_told(error)})"
                yield Check(name, False, text, _ADVICE_ON_A_PAIR)


_ADVICE_ON_A_PAIR = (
    "Put in a certificate and its key, as PEM. Until then a running API shows the ones before; other listeners read "
    "theirs when they start."
)


def _certificates(settings: Settings) -> Iterator[tuple[str, Path]]:
    if settings.dicom_tls.certificate:
        yield "[dicom_tls]", settings.dicom_tls.certificate
    if settings.hl7.port is not None and settings.hl7.certificate:
        yield "[hl7]", settings.hl7.certificate
    if settings.api.enabled and settings.api.certificate:
        yield "[api]", settings.api.certificate
    peers: list[tuple[str, Section]] = [
        *((f"destination {one.name}", one) for one in destinations_of(settings)),
        *((f"source {one.name}", one) for one in sources_of(settings)),
    ]
    for name, peer in peers:
        if isinstance(peer, DicomPeer | Hl7Destination | WebPeer) and peer.client_certificate:
            yield name, peer.client_certificate


def _check_certificate(name: str, path: Path, now: datetime | None = None) -> Check:
    try:
        shown = x509.load_pem_x509_certificates(path.read_bytes())[0]  # the first is the node's, then who signed it
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no certificate in PEM"
        return Check(name, False, f"{path} cannot be used ({why})", "Name the file of a certificate, as PEM.")
    ends = shown.not_valid_after_utc
    left = ends - (now or datetime.now(UTC))
    text = f"{path}, valid until {ends:%Y-%m-%d %H:%M} UTC"
    if left > CERTIFICATE_RENEWED_BEFORE:
        return Check(name, True, text)
    text += f", {left.days} days from now" if left > timedelta(0) else ": it has ended"
    return Check(name, False, text, "Have it renewed, and put the new one into this file.")


def _check_key(name: str, path: Path) -> Check:
    try:
        key = read_key(path)
    except SettingsError as error:
        advice = "Make it a private key (RSA or EC P-384) that the node's user alone can read."
        return Check(name, False, str(error).rstrip("."), advice)
    return Check(name, True, f"{path}, {key.algorithm}, kid {key.kid}")


def with_reports(answer: Answer, destination: DestinationKind, settings: Settings) -> Answer:
    """Add to a PACS that is well whether its reports of storage commitment would be refused at the node's own port.

    It may report on the association that asked, so that is a fault only where nothing else counts as proof.
    """
    if not (answer.ok and settings.peer and isinstance(destination, DicomDestination)):
        return answer
    if destination.verify not in {"auto", "commitment"}:
        return answer
    title = destination.ae_title
    if any(peer.ae_title == title for peer in settings.peer):
        return answer
    text = f"{answer.text}; no [[peer]], so an association of its own to report storage commitment is refused"
    if destination.verify == "auto":
        return replace(answer, text=text)
    return Answer(False, text, f"Add a [[peer]] with ae_title = {title!r} and the address from which it calls.")


def check_hl7_senders(settings: Settings) -> list[Check]:
    """One check of who may send HL7, where the node hears it. It is well, since settings without a list are refused
    beyond this machine; a peer that may be anybody and shows no certificate is told."""
    own = settings.hl7
    if own.port is None:
        return []
    name = "HL7 senders"
    if not own.peer:
        return [Check(name, True, f"none is listed: every program on this machine may send to {own.host}")]
    hosts = ["every address" if peer.host == ANY_ADDRESS else peer.host for peer in own.peer]
    is_known_by_certificate = own.certificate is not None and own.client_certificate == "required"
    unproven = [peer for peer in own.peer if peer.host == ANY_ADDRESS and not peer.certificate_sha256]
    advice = "" if is_known_by_certificate or not unproven else _WHO_MAY_MERGE
    return [Check(name, True, f"{len(hosts)} may send, from {', '.join(dict.fromkeys(hosts))}", advice)]


_WHO_MAY_MERGE = "Whoever reaches the port may merge patients: give host of [[hl7.peer]] an address, or use TLS."


def check_sign_in(settings: Settings) -> list[Check]:
    """The OpenID provider, where one is named: its documents can be had and used. Nobody signs in for that."""
    if not settings.oidc.issuer:
        return []
    provider = Provider(settings.oidc)
    name = f"sign-in at {provider.host}"
    try:
        said, keys = provider.metadata(), provider.keys(None)
    except ProviderAway as error:
        return [Check(name, False, str(error), "Check oidc.issuer, oidc.ca and the network. Local accounts go on.")]
    notice = "tells of sign-outs" if said.tells_of_sign_outs else "does not tell of sign-outs, and is asked instead"
    text = f"keys: {len(keys.keys)}, {notice}; it must know {settings.oidc.public_url}{CALLBACK}"
    return [Check(name, True, text)]


def check_sources(settings: Settings) -> list[Check]:
    """One check per source; none is no fault, for studies may all be sent."""
    return [_check(source) for source in make_sources(settings).values()]


def _check(source: Source) -> Check:
    name = f"source {source.name}"
    try:
        source.find_studies(_NO_ORDER, 1)
    except (NotFound, RetrieveError) as error:
        return Check(name, False, str(error), _ADVICE)
    return Check(name, True, f"{source.host} answers queries")


# --- models ------------------------------------------------------------------------------------------------------

_CONFINED = "models confined"
_NOT_RUN = "Until then its studies are not analysed."


def check_confinement(settings: Settings) -> Check:
    """The code of models is confined as far as the settings want; where this system cannot, that is told, too."""
    confine = settings.inference.confine
    if confine == "require" and lacking():
        return Check(_CONFINED, False, told(confine), 'Run models elsewhere, or set inference.confine = "auto".')
    trust = "Accept only models whose code you have read and trust."
    return Check(_CONFINED, True, told(confine), trust if confine == "off" or lacking() else "")


def check_models(settings: Settings) -> list[Check]:
    """One check per route and one per folder that cannot be used: their studies would end as not analysed."""
    survey = survey_models(settings.models_dirs)
    broken = [Check(f"model folder {folder.name}", False, problem, "Correct or remove it; it is passed over.")
              for folder, problem in survey.problems.items()]  # fmt: skip
    if not settings.route:
        return [*broken, Check("models", False, "no [[route]] is configured", "Add a route, or nothing is analysed.")]
    return [*broken, *(_check_route(route, survey.cards, settings) for route in settings.route)]


def _check_route(route: RouteSettings, cards: Mapping[str, ModelCard], settings: Settings) -> Check:
    name = f"route {route.name}"
    card = cards.get(route.model)
    if card is None:
        known = ", ".join(sorted(cards)) or "none"
        return Check(name, False, f"there is no model {route.model}; there are: {known}", "Correct [[route]] model.")
    try:
        identity = card.identity(route.parameters)
    except (SettingsError, ModelUnavailable) as error:
        return Check(name, False, str(error), _NOT_RUN)
    standing = standing_so_far(card, settings)
    if standing.standing is not Standing.LIVE:
        return Check(name, False, f"{standing.standing}: {standing.text}", _NOT_RUN)
    return Check(name, True, f"{identity.name} {identity.version}, digest {identity.digest[:12]}")
