"""Sign-in at a provider that lies, repeats itself, mixes things up, changes its keys, or does not answer."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.fernet import Fernet
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from dicom_node.config.openid import OidcSettings
from dicom_node.config.settings import Settings
from dicom_node.core.errors import GrantEnded, ProviderAway, SignInDenied
from dicom_node.core.principal import Principal, UserRole, key_at_provider
from dicom_node.doctor.check import Check
from dicom_node.doctor.configured import check_sign_in
from dicom_node.index.database import Database
from dicom_node.index.people.sessions import Session
from dicom_node.people.openid import provider as oidc_provider
from dicom_node.people.openid.sessions import ProviderSessions
from dicom_node.people.openid.sign_in import OpenIdSignIn, Vouched
from dicom_node.people.sessions import Sessions
from tests.peers.certificates import make_certificates
from tests.peers.openid_stand_in import CLIENT_ID, StandIn, running_stand_in
from tests.support.needs import REPOSITORY

PUBLISHED = REPOSITORY / "tests" / "support" / "openid"
NODE = "http://127.0.0.1:8042"
AUDIENCE = "urn:dicom-node"
SIGNED_OUT: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})

#: Makes a token from the provider, and the nonce that was sent.
Make = Callable[[StandIn, str], str]


@pytest.fixture
def provider() -> Iterator[StandIn]:
    with running_stand_in() as stand_in:
        yield stand_in


def node_at(provider: StandIn, **changes: Any) -> OpenIdSignIn:
    settings = {
        "issuer": provider.url, "client_id": CLIENT_ID, "client_secret": "s3cret", "public_url": NODE,
        "roles": {"readers": "viewer", "leads": "reviewer"}, "audience": AUDIENCE, "keep_s": 600,
    }  # fmt: skip
    return OpenIdSignIn(OidcSettings.model_validate({**settings, **changes}), Fernet.generate_key())


def asked(url: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}


def sign_in(node: OpenIdSignIn, provider: StandIn, make: Make, **more: object) -> Vouched:
    begun = node.begin()
    request = asked(begun.url)
    provider.gives(make(provider, request["nonce"]), **more)
    return node.finish(begun.cookie, {"state": request["state"], "code": "a-code"})[0]


def honest(provider: StandIn, nonce: str) -> str:
    return provider.signed(provider.claims(nonce=nonce))


def by_hand(header: dict[str, str], claims: object, sign: Callable[[bytes], bytes]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims)]
    signature = base64.urlsafe_b64encode(sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


def unsigned(provider: StandIn, nonce: str) -> str:
    return by_hand({"alg": "none", "kid": "first"}, provider.claims(nonce=nonce), lambda _: b"")


def signed_by_the_public_key(provider: StandIn, nonce: str) -> str:
    """Libraries refuse to do this, attackers do not."""
    provider.shows(RSA)
    public = RSA.as_pem(private=False)
    header = {"alg": "HS256", "kid": "rsa"}
    return by_hand(header, provider.claims(nonce=nonce), lambda text: hmac.digest(public, text, "sha256"))


def changed(**claims: object) -> Make:
    return lambda provider, nonce: provider.signed(provider.claims(**{"nonce": nonce, **claims}))


LIES: Mapping[str, tuple[Make, str]] = {
    "alg none": (unsigned, "signature does not hold"),
    "HS256 by the public key": (signed_by_the_public_key, "signature does not hold"),
    "another's key under the same name": (
        lambda p, n: p.signed(p.claims(nonce=n), ECKey.generate_key("P-256", {"kid": "first"})),
        "BadSignature",
    ),
    "a key nobody knows": (
        lambda p, n: p.signed(p.claims(nonce=n), ECKey.generate_key("P-256", {"kid": "other"})),
        "signature does not hold",
    ),
    "another nonce": (changed(nonce="another"), "nonce"),
    "no nonce": (changed(nonce=None), "nonce"),
    "another audience": (changed(aud="another"), "aud"),
    "no audience": (changed(aud=None), "aud"),
    "two audiences and no azp": (changed(aud=[CLIENT_ID, "another"]), "azp"),
    "made out by another client": (changed(aud=[CLIENT_ID, "another"], azp="another"), "azp"),
    "another issuer": (changed(iss="https://evil.example"), "iss"),
    "expired": (changed(exp=int(time.time()) - 120), "Expired"),
    "never expires": (changed(exp=None), "exp"),
    "not valid yet": (changed(nbf=int(time.time()) + 86400), "not yet valid"),
    "from the future": (changed(iat=int(time.time()) + 86400), "future"),
    "NaN": (changed(exp=float("nan")), "exp"),
    "of another access token": (changed(at_hash="bm90IHRoaXMgb25lIQ"), "at_hash"),
    "nobody": (changed(sub=""), "nobody"),
    "a number for a subject": (changed(sub=7), "sub"),
    "a logout token": (changed(events=SIGNED_OUT), "no ID token"),
    "a logout token by its type": (
        lambda p, n: p.signed(p.claims(nonce=n), typ="logout+jwt"),
        "no ID token",
    ),
    "an access token by its type": (lambda p, n: p.signed(p.claims(nonce=n), typ="at+jwt"), "no ID token"),
    "none": (lambda *_: "", "signature does not hold"),
    "endless": (lambda *_: "x" * 70_000, "too long"),
    "no role": (changed(roles=["nurses"]), "no role here"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_token_that_does_not_hold_signs_nobody_in(provider: StandIn, lie: str) -> None:
    make, why = LIES[lie]
    with pytest.raises(SignInDenied, match=why):
        sign_in(node_at(provider), provider, make)


def test_who_signs_in_is_asked_for_by_code_pkce_state_and_nonce(provider: StandIn) -> None:
    node = node_at(provider, parameters={"prompt": "consent"})
    begun = node.begin("study/1.2")
    request = asked(begun.url)
    assert request["response_type"] == "code"
    assert request["redirect_uri"] == f"{NODE}/login/oidc/callback"
    assert request["code_challenge_method"] == "S256"
    assert request["prompt"] == "consent"
    provider.gives(honest(provider, request["nonce"]))
    vouched, view = node.finish(begun.cookie, {"state": request["state"], "code": "a-code"})
    assert vouched.principal.name == "anna (127.0.0.1)"
    assert vouched.principal.key == key_at_provider(provider.url, "anna-1")
    assert vouched.principal.roles == {UserRole.VIEWER}
    assert (vouched.grant.subject, vouched.grant.session_id, view) == ("anna-1", "session-1", "study/1.2")
    (form,) = provider.forms
    assert form["code"] == "a-code"
    assert re.fullmatch(r"[\w-]{64}", form["code_verifier"])
    assert form["code_verifier"] not in begun.url + begun.cookie
    assert "s3cret" not in repr(node.settings) + repr(vouched) + repr(begun)


def test_an_answer_to_another_sign_in_is_not_taken(provider: StandIn) -> None:
    node = node_at(provider)
    mine, others = node.begin(), node.begin()
    provider.gives(honest(provider, asked(mine.url)["nonce"]))
    good = {"state": asked(mine.url)["state"], "code": "a-code"}
    for cookie, answer, why in (
        (others.cookie, good, "another sign-in"),
        (mine.cookie, {**good, "state": ""}, "another sign-in"),
        (mine.cookie, {"code": "a-code"}, "another sign-in"),
        (mine.cookie, {**good, "iss": "https://evil.example"}, "Another provider"),
        (mine.cookie, {**good, "error": "access_denied"}, "may not use the node"),
        (mine.cookie, {"state": good["state"]}, "an error"),
        ("", good, "not begun in this browser"),
        (mine.cookie[:-4] + "AAA=", good, "not begun in this browser"),
        (node_at(provider).begin().cookie, good, "not begun in this browser"),
        (node.sealed(sign_in(node, provider, honest).grant), good, "not begun in this browser"),
    ):
        with pytest.raises(SignInDenied, match=why):
            node.finish(cookie, answer)
    provider.gives(honest(provider, asked(mine.url)["nonce"]))
    node.finish(mine.cookie, {**good, "iss": provider.url})
    with pytest.raises(SignInDenied, match="ended before"):
        node.finish(mine.cookie, good)


def test_a_provider_that_names_itself_must_do_so(provider: StandIn) -> None:
    provider.says(authorization_response_iss_parameter_supported=True)
    with pytest.raises(SignInDenied, match="Another provider"):
        sign_in(node_at(provider), provider, honest)


def test_a_code_that_is_not_honoured_signs_nobody_in(provider: StandIn) -> None:
    node = node_at(provider)
    begun = node.begin()
    answer = {"state": asked(begun.url)["state"], "code": "used"}
    provider.documents["/token"] = {"error": "invalid_grant", "error_description": "seen before"}
    with pytest.raises(GrantEnded):
        node.finish(begun.cookie, answer)


def test_roles_may_be_told_only_where_they_are_asked_for(provider: StandIn) -> None:
    provider.says(userinfo_endpoint=f"{provider.url}/me")
    provider.documents["/me"] = {"sub": "anna-1", "roles": ["leads"]}
    node = node_at(provider)
    assert sign_in(node, provider, changed(roles=None)).principal.roles == {UserRole.REVIEWER}
    provider.documents["/me"] = {"sub": "bob-1", "roles": ["leads"]}
    with pytest.raises(SignInDenied, match="somebody else"):
        sign_in(node, provider, changed(roles=None))


# --- keys and documents ----------------------------------------------------------------------------------------------


def test_a_new_key_is_fetched_once_and_a_flood_of_unknown_names_asks_no_more(provider: StandIn) -> None:
    node = node_at(provider)
    sign_in(node, provider, honest)
    provider.key = ECKey.generate_key("P-256", {"kid": "second", "use": "sig"})
    provider.shows(provider.key, RSA)
    sign_in(node, provider, honest)
    assert sign_in(node, provider, lambda p, n: p.signed(p.claims(nonce=n), RSA, alg="PS256"))
    for number in range(5):
        with pytest.raises(SignInDenied):
            node.service(provider.signed(provider.claims(aud=AUDIENCE), kid=f"unknown-{number}"))
    assert provider.asked.count("/keys") == 2


@pytest.mark.parametrize(
    ("path", "document", "why"),
    [
        ("/.well-known/openid-configuration", b"[" * 300_000, "longer than any"),
        ("/.well-known/openid-configuration", b"[" * 100_000, "no JSON document"),
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example"}, "names another issuer"),
        ("/.well-known/openid-configuration", None, "HTTP 400"),
        ("/keys", {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}, "no key"),
        ("/keys", {"keys": ["x", {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "first"}]}, "no key"),
        ("/keys", {"keys": 7}, "no key"),
    ],
)
def test_documents_that_cannot_be_used_are_a_provider_that_is_away(
    provider: StandIn, path: str, document: Any, why: str
) -> None:
    node = node_at(provider)
    provider.documents[path] = document
    with pytest.raises(ProviderAway, match=why):
        sign_in(node, provider, honest)
    assert why in node.fault()


@pytest.mark.parametrize("endpoint", ["https://user@evil.example/", "ftp://x/", "javascript:alert(1)", "", None, 7])
def test_an_address_that_cannot_be_called_is_not_used(provider: StandIn, endpoint: object) -> None:
    provider.says(authorization_endpoint=endpoint)
    with pytest.raises(ProviderAway, match="authorization_endpoint"):
        node_at(provider).begin()


def test_nobody_waits_long_for_a_provider_that_is_silent(provider: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc_provider, "ANSWERED_WITHIN_S", 0.5)
    node = node_at(provider)
    vouched = sign_in(node, provider, honest, refresh_token="first")
    provider.silent.add("/token")
    with pytest.raises(ProviderAway, match=r"no whole answer within 0\.5 s"):
        sign_in(node, provider, honest)
    waiting = provider.asked.count("/token")
    assert node.confirmed(vouched.grant) is None
    assert provider.asked.count("/token") == waiting, "was asked again a moment after it did not answer"
    with pytest.raises(GrantEnded, match="away too long"):
        node.confirmed(replace(vouched.grant, confirmed_at=time.time() - 700))


def test_the_doctor_says_whether_the_provider_can_be_asked(provider: StandIn) -> None:
    assert check_sign_in(Settings()) == []
    provider.says(backchannel_logout_supported=True)
    settings = Settings(oidc=node_at(provider).settings)
    (well,) = check_sign_in(settings)
    assert well == Check(
        "sign-in at 127.0.0.1", True, f"keys: 1, tells of sign-outs; it must know {NODE}/login/oidc/callback"
    )
    provider.says(issuer="https://evil.example")
    (ill,) = check_sign_in(settings)
    assert not ill.ok
    assert "names another issuer" in ill.text
    assert "oidc.issuer" in ill.advice


def test_the_authority_of_the_house_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    with running_stand_in(certificates.server) as provider:
        assert sign_in(node_at(provider, ca=certificates.ca), provider, honest)
        with pytest.raises(ProviderAway, match="certificate that does not hold"):
            node_at(provider).begin()
        with pytest.raises(ProviderAway, match=r"oidc\.ca"):
            node_at(provider, ca=tmp_path / "none.pem").begin()
    with running_stand_in(certificates.rogue) as impostor, pytest.raises(ProviderAway, match="does not hold"):
        node_at(impostor, ca=certificates.ca).begin()


def test_the_node_may_sign_in_with_a_key_instead_of_a_secret(provider: StandIn, tmp_path: Path) -> None:
    key = tmp_path / "oidc.key"
    key.touch(0o600)
    key.write_bytes(RSA.as_pem(private=True))
    sign_in(node_at(provider, client_secret=None, private_key=key), provider, honest)
    (form,) = provider.forms
    assertion = jwt.decode(form["client_assertion"], RSA, algorithms=["RS256"]).claims
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert (assertion["iss"], assertion["sub"], assertion["aud"]) == (CLIENT_ID, CLIENT_ID, f"{provider.url}/token")
    assert "client_secret" not in form
    key.write_text("no key", encoding="utf-8")
    with pytest.raises(SignInDenied, match="holds no RSA key"):
        sign_in(node_at(provider, client_secret=None, private_key=key), provider, honest)


def test_a_session_that_many_use_at_once_is_asked_for_once(provider: StandIn, index: Database) -> None:
    """A refresh token is good once: by the second use a provider takes it for stolen, and ends everything."""
    node, now = node_at(provider), datetime(2026, 3, 14, 8, 0, tzinfo=UTC)
    times = [now]
    sessions = Sessions(index, clock=lambda: times[-1])
    kept = ProviderSessions(index, sessions, node, clock=lambda: times[-1])
    secret = kept.open(sign_in(node, provider, honest, refresh_token="first"))
    provider.gives(provider.signed(provider.claims(roles=["leads"])), refresh_token="second")
    provider.forms.clear()

    def use(_: int) -> Session | None:
        session = sessions.find(secret)
        return session and kept.vouched(session)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
        assert provider.forms == []
        times.append(now + timedelta(seconds=41))
        list(pool.map(use, range(8)))
    assert [form["refresh_token"] for form in provider.forms] == ["first"]
    used = use(0)
    assert used is not None
    assert used.principal.roles == {UserRole.REVIEWER}
    times.append(now + timedelta(seconds=82))
    use(0)
    assert [form["refresh_token"] for form in provider.forms] == ["first", "second"]
    provider.documents["/token"] = {"error": "invalid_grant"}
    times.append(now + timedelta(seconds=123))
    with pytest.raises(GrantEnded):
        use(0)
    assert use(0) is None


def test_a_silent_provider_holds_few_of_those_who_wait(
    provider: StandIn, index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, times = node_at(provider), [datetime(2026, 3, 14, 8, 0, tzinfo=UTC)]
    sessions = Sessions(index, clock=lambda: times[-1])
    kept = ProviderSessions(index, sessions, node, clock=lambda: times[-1])
    secrets = [kept.open(sign_in(node, provider, honest, refresh_token=f"{n}")) for n in range(12)]
    found = [sessions.find(secret) for secret in secrets]
    monkeypatch.setattr(oidc_provider, "ANSWERED_WITHIN_S", 0.5)
    provider.silent.add("/token")
    times.append(times[-1] + timedelta(seconds=41))
    asked_before = provider.asked.count("/token")
    with ThreadPoolExecutor(12) as pool:
        used = list(pool.map(kept.vouched, [session for session in found if session]))
    assert len(used) == 12, "somebody was signed out because the provider is away"
    assert provider.asked.count("/token") - asked_before <= 8


@pytest.mark.parametrize("provider_name", ["google", "entra", "keycloak"])
def test_what_providers_publish_of_themselves_can_be_used(provider: StandIn, provider_name: str) -> None:
    text = (PUBLISHED / f"{provider_name}.json").read_text(encoding="utf-8")
    said = json.loads(re.sub(r"https://[\w.]+", provider.url, text))["discovery"]
    provider.documents[urlsplit(said["issuer"]).path + "/.well-known/openid-configuration"] = said
    provider.documents[urlsplit(said["jwks_uri"]).path] = provider.documents["/keys"]
    node = node_at(provider, issuer=said["issuer"])
    begun = node.begin()
    assert begun.url.startswith(said["authorization_endpoint"] + "?")
    request = asked(begun.url)
    id_token = provider.signed(provider.claims(iss=said["issuer"], nonce=request["nonce"]))
    provider.documents[urlsplit(said["token_endpoint"]).path] = {"access_token": "opaque", "id_token": id_token}
    answer = {"state": request["state"], "code": "a-code"}
    if provider_name == "keycloak":  # it names itself in its answers, and must
        answer["iss"] = said["issuer"]
    grant = node.finish(begun.cookie, answer)[0].grant
    assert node.give_back(grant).partition("?")[0] == said.get("end_session_endpoint", "")


def test_the_address_for_every_tenant_of_entra_lets_nobody_in(provider: StandIn) -> None:
    provider.says(issuer="https://login.microsoftonline.com/{tenantid}/v2.0")
    with pytest.raises(ProviderAway, match=r"Name yours in oidc\.issuer"):
        node_at(provider).begin()


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_a_session_goes_on_with_what_the_provider_says_by_now(provider: StandIn) -> None:
    node = node_at(provider)
    first = sign_in(node, provider, honest, refresh_token="first")
    provider.gives(provider.signed(provider.claims(roles=["leads"])), refresh_token="second")
    second = node.confirmed(first.grant)
    assert second is not None
    assert second.principal.roles == {UserRole.REVIEWER}
    assert (second.grant.refresh_token, second.grant.session_id) == ("second", "session-1")
    assert provider.forms[-1] == {"grant_type": "refresh_token", "refresh_token": "first"}
    assert node.opened(node.sealed(second.grant)) == second.grant
    assert "second" not in node.sealed(second.grant)
    for token, why in (
        (provider.signed(provider.claims(sub="bob-1")), "somebody else"),
        (provider.signed(provider.claims(roles=[])), "no role"),
    ):
        provider.gives(token)
        with pytest.raises(SignInDenied, match=why):
            node.confirmed(second.grant)
    provider.documents["/token"] = {"error": "invalid_grant"}
    with pytest.raises(GrantEnded):
        node.confirmed(second.grant)


def test_without_a_refresh_token_a_session_lasts_as_long_as_the_id_token(provider: StandIn) -> None:
    node = node_at(provider)
    grant = sign_in(node, provider, honest).grant
    assert node.confirmed(grant) is None
    with pytest.raises(GrantEnded, match="run out"):
        node.confirmed(replace(grant, ends_at=time.time() - 1))


def test_a_key_that_is_gone_ends_what_it_sealed(provider: StandIn) -> None:
    grant = sign_in(node_at(provider), provider, honest).grant
    with pytest.raises(GrantEnded, match="key that sealed"):
        node_at(provider).opened(node_at(provider).sealed(grant))


def logout_claims(provider: StandIn, **changes: object) -> dict[str, object]:
    return provider.claims(**{"roles": None, "preferred_username": None, "events": SIGNED_OUT, "jti": "1", **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"events": None}, "no logout token"),
        ({"events": {"other": {}}}, "no logout token"),
        ({"events": list(SIGNED_OUT)}, "no logout token"),
        ({"nonce": "n"}, "no logout token"),
        ({"jti": None}, "jti"),
        ({"iat": None}, "iat"),
        ({"iat": int(time.time()) - 400}, "too old"),
        ({"aud": "another"}, "aud"),
        ({"iss": "https://evil.example"}, "iss"),
        ({"exp": int(time.time()) - 120}, "Expired"),
        ({"sid": None, "sub": None}, "neither"),
        ({"sid": 7}, "neither"),
    ],
)
def test_a_notice_that_does_not_hold_signs_nobody_out(provider: StandIn, changes: dict[str, object], why: str) -> None:
    with pytest.raises(SignInDenied, match=why):
        node_at(provider).sign_out_notice(provider.signed(logout_claims(provider, **changes)))


def test_a_notice_is_believed_once(provider: StandIn) -> None:
    node = node_at(provider)
    token = provider.signed(logout_claims(provider), typ="logout+jwt")
    notice = node.sign_out_notice(token)
    assert (notice.issuer, notice.session_id, notice.subject) == (provider.url, "session-1", "anna-1")
    with pytest.raises(SignInDenied, match="shown before"):
        node.sign_out_notice(token)


@pytest.mark.parametrize(
    ("header", "changes", "why"),
    [
        ({}, {"aud": CLIENT_ID}, "no access token"),
        ({"typ": "at+jwt"}, {"aud": CLIENT_ID}, "aud"),
        ({}, {"aud": "others"}, "aud"),
        ({}, {"iss": "https://evil.example"}, "iss"),
        ({}, {"exp": int(time.time()) - 120}, "Expired"),
        ({}, {"exp": int(time.time()) + 90_000}, "2 hours"),
        ({}, {"nonce": "n"}, "no access token"),
        ({}, {"at_hash": "h"}, "no access token"),
        ({}, {"c_hash": "h"}, "no access token"),
        ({}, {"aud": [AUDIENCE, CLIENT_ID]}, "no access token"),
        ({"typ": "at+jwt"}, {"nonce": "n"}, "no access token"),
        ({"typ": "at+jwt"}, {"at_hash": "h"}, "no access token"),
        ({}, {"events": SIGNED_OUT}, "no access token"),
        ({}, {"typ": "ID"}, "no access token"),
        ({"typ": "logout+jwt"}, {}, "no access token"),
        ({}, {"roles": ["nurses"]}, "no role"),
    ],
)
def test_a_token_that_is_not_for_this_service_opens_nothing(
    provider: StandIn, header: dict[str, Any], changes: dict[str, object], why: str
) -> None:
    claims = {"aud": AUDIENCE, "client_id": "pacs", "roles": ["readers"], **changes}
    with pytest.raises(SignInDenied, match=why):
        node_at(provider).service(provider.signed(provider.claims(**claims), **header))


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "JWT"])
def test_a_service_is_known_by_its_access_token(provider: StandIn, typ: str) -> None:
    claims = provider.claims(aud=[AUDIENCE, "others"], client_id="pacs", sub="pacs", preferred_username=None, sid=None)
    principal, until = node_at(provider).service(provider.signed(claims, typ=typ))
    assert until.timestamp() == claims["exp"]
    key = key_at_provider(provider.url, "pacs")
    assert principal == Principal("pacs (127.0.0.1)", frozenset({UserRole.VIEWER}), key)
    with pytest.raises(SignInDenied, match=r"oidc\.audience"):
        node_at(provider, audience="").service(provider.signed(claims, typ=typ))


def test_where_tokens_must_say_what_they_are_one_that_does_not_opens_nothing(provider: StandIn) -> None:
    node = node_at(provider, access_token_type="at+jwt")
    claims = provider.claims(aud=AUDIENCE, client_id="pacs", roles=["readers"])
    assert node.service(provider.signed(claims, typ="at+jwt"))[0].roles == {UserRole.VIEWER}
    # To a node and to others at once: such a token says by its type that it is none of who signed in.
    both = {**claims, "aud": [AUDIENCE, CLIENT_ID]}
    assert node.service(provider.signed(both, typ="at+jwt"))[0].roles == {UserRole.VIEWER}
    with pytest.raises(SignInDenied, match="no access token"):
        node.service(provider.signed(claims))
