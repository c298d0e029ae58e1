"""What somebody may do here, read from the claims that providers publish."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.config.openid import OidcSettings
from dicom_node.core.errors import SignInDenied
from dicom_node.core.principal import UserRole
from dicom_node.people.openid.roles import name_in, roles_in
from tests.support.needs import REPOSITORY

PUBLISHED = REPOSITORY / "tests" / "support" / "openid"
REVIEWER, OPERATOR, ADMIN = frozenset({UserRole.REVIEWER}), frozenset({UserRole.OPERATOR}), frozenset({UserRole.ADMIN})


def settings(role_claim: str = "roles", **roles: Any) -> OidcSettings:
    one = {"issuer": "https://sso.hospital.local", "client_id": "dicom-node", "public_url": "https://ai.hospital.local"}
    return OidcSettings.model_validate({**one, "role_claim": role_claim, "roles": roles})


def published(provider: str, claims: str = "claims") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((PUBLISHED / f"{provider}.json").read_text(encoding="utf-8"))[claims]
    return told


@pytest.mark.parametrize(
    ("provider", "claims", "claim", "value", "roles"),
    [
        ("keycloak", "claims", "realm_access.roles", "radiologist", REVIEWER),
        ("keycloak", "claims", "resource_access.dicom-node.roles", "operator", OPERATOR),
        ("entra", "claims_roles", "roles", "Radiology.Review", REVIEWER),
        ("entra", "claims_service", "roles", "Radiology.Review", REVIEWER),
        ("entra", "claims_groups", "groups", "ffffffff-5555-6666-7777-aaaaaaaaaaaa", ADMIN),
        ("google", "claims", "email", "jsmith@example.com", ADMIN),
        ("google", "claims", "hd", "example.com", REVIEWER),
    ],
)
def test_roles_are_found_where_providers_write_them(
    provider: str, claims: str, claim: str, value: str, roles: frozenset[UserRole]
) -> None:
    told = published(provider, claims)
    assert roles_in(told, settings(claim, **{value: tuple(roles)})) == roles
    with pytest.raises(SignInDenied, match=r"no value that is mapped"):
        roles_in(told, settings(claim, other="admin"))


@pytest.mark.parametrize(
    ("claims", "claim"),
    [
        ({"roles": "readers"}, "roles"),
        ({"roles": "nurses readers"}, "roles"),
        ({"roles": "nurses,readers"}, "roles"),
        ({"https://hospital.local/roles": ["readers"]}, "https://hospital.local/roles"),
        ({"resource_access": {"my.dotted.client": {"roles": ["readers"]}}}, "resource_access.my.dotted.client.roles"),
    ],
)
def test_a_claim_may_be_a_string_or_have_dots_in_its_name(claims: dict[str, Any], claim: str) -> None:
    assert roles_in(claims, settings(claim, readers="reviewer")) == REVIEWER


@pytest.mark.parametrize(
    "claims",
    [{}, {"roles": []}, {"roles": None}, {"roles": {"readers": True}}, {"roles": [["readers"]]}, {"roles": 7}],
)
def test_who_has_no_role_is_told_so(claims: dict[str, Any]) -> None:
    with pytest.raises(SignInDenied, match=r"no role here: its claim roles is missing or empty"):
        roles_in(claims, settings(readers="viewer"))


def test_groups_that_entra_left_out_are_explained() -> None:
    with pytest.raises(SignInDenied, match=r"too many groups .* use app roles"):
        roles_in(published("entra", "claims_overage"), settings("groups", readers="viewer"))


@pytest.mark.parametrize("verified", [False, "true", None])
def test_an_address_that_nobody_verified_gives_no_role(verified: object) -> None:
    told = {**published("google"), "email_verified": verified}
    with pytest.raises(SignInDenied, match="email_verified"):
        roles_in(told, settings("email", **{"jsmith@example.com": "admin"}))


def test_a_name_holds_nothing_unseen_and_cannot_pass_for_a_local_one() -> None:
    told = {"preferred_username": " an\u202ena\n ", "sub": "1"}
    assert name_in(told, ("preferred_username", "sub"), "https://sso.hospital.local") == "anna (sso.hospital.local)"
    assert len(name_in({"sub": "x" * 300}, ("sub",), f"https://{'y' * 60}.local")) == 128
    with pytest.raises(SignInDenied, match="no name"):
        name_in({"sub": "\n"}, ("sub",), "https://sso.hospital.local")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": ""}, "missing beside"),
        ({"issuer": "http://sso.hospital.local"}, "write https://"),
        ({"issuer": "https://user:word@sso.hospital.local"}, "hold no"),
        ({"public_url": "https://ai.hospital.local/node"}, "root of its host"),
        ({"public_url": ""}, "missing beside issuer"),
        ({"roles": {}}, "missing beside issuer"),
        ({"roles": {"readers": "owner"}}, "viewer"),
        ({"scopes": "profile"}, "must hold openid"),
        ({"parameters": {"nonce": "1"}}, "the node sets nonce itself"),
        ({"audience": "dicom-node"}, "need another"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(changes: dict[str, Any], why: str) -> None:
    good = settings(readers="viewer").model_dump(exclude_unset=True)
    with pytest.raises(ValidationError, match=why):
        OidcSettings.model_validate({**good, **changes})
