"""People and keys, for administrators; and what everybody may know and change about themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StrictBool, model_validator
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from dicom_node.api.access import (
    Administers,
    CurrentAccess,
    CurrentActor,
    CurrentIdentity,
    Reads,
    address_of,
    browser_cookie_name,
)
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, TextPageQuery
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.routes.people.session import set_session_cookie
from dicom_node.core.audit import AuditedAct
from dicom_node.core.principal import PERMISSIONS, Permission, UserRole
from dicom_node.index.people.accounts import Account
from dicom_node.people.accounts import Accounts, TriedFrom
from dicom_node.people.keys import MAX_DAYS
from dicom_node.people.passwords import MAX_LENGTH, MIN_LENGTH
from dicom_node.people.sessions import digest_of
from dicom_node.people.views import KeyView, UserView

router = APIRouter(prefix=V1, tags=["people"], responses=described(401, 403, 422, 429, 503))

_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._@-]*$"
Name = Annotated[str, Path(max_length=64, pattern=_PATTERN, description="Name, whatever its case")]
#: Whom the node itself is called, in whatever case.
_TAKEN = {"not": {"pattern": "^([Aa][Pp][Ii]-[Tt][Oo][Kk][Ee][Nn]|[Nn][Oo][Dd][Ee])$"}}
_NewName = Annotated[str, Field(max_length=64, pattern=_PATTERN, json_schema_extra=_TAKEN)]
_Password = Annotated[SecretStr, Field(max_length=MAX_LENGTH)]
#: What makes one too common no schema can say.
_NewPassword = Annotated[_Password, Field(json_schema_extra={"minLength": MIN_LENGTH})]


def _each_once(roles: object) -> object:
    if isinstance(roles, list) and any(roles.count(one) > 1 for one in roles):
        raise ValueError("a role is named twice")
    return roles


_Roles = Annotated[frozenset[UserRole], Field(min_length=1), BeforeValidator(_each_once)]


# --- people ------------------------------------------------------------------------------------------------------


class NewUser(BaseModel):
    """Whom to add. Without a password they cannot sign in by one."""

    model_config = ConfigDict(extra="forbid")

    name: _NewName
    roles: _Roles
    password: _NewPassword | None = None


class PersonNamed(BaseModel):
    """What somebody is called in the reports that they verify."""

    model_config = ConfigDict(extra="forbid")

    display_name: str = Field("", max_length=64, description="As DICOM writes names; empty: the account's name.",
                              examples=["Weiss^Anna"])  # fmt: skip
    identifier: str = Field("", max_length=64, description="By which the hospital knows them.", examples=["PRV-1042"])


class UserChange(BaseModel):
    """What to change about somebody: one of these at a time."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1, "maxProperties": 1})

    roles: _Roles | SkipJsonSchema[None] = None
    disabled: StrictBool | SkipJsonSchema[None] = None
    password: _NewPassword | SkipJsonSchema[None] = None
    named: PersonNamed | SkipJsonSchema[None] = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1 or None in (getattr(self, key) for key in self.model_fields_set):
            raise ValueError("give one of roles, disabled, password, named")
        return self

    @property
    def what(self) -> str:
        """Which change it is, for the audit trail."""
        if self.disabled is not None:
            return "disabled" if self.disabled else "enabled"
        if self.named is not None:
            return "named"
        return "roles" if self.roles is not None else "password"

    def made(self, accounts: Accounts, name: str) -> Account:
        """Change it. Raises what `Accounts` does."""
        if self.roles is not None:
            return accounts.set_roles(name, self.roles)
        if self.password is not None:
            return accounts.set_password(name, self.password.get_secret_value())
        if self.named is not None:
            return accounts.set_named(name, self.named.display_name, self.named.identifier)
        return accounts.disable(name) if self.disabled else accounts.enable(name)


@router.get("/users", summary="Who may sign in", dependencies=[Administers], responses={**PAGED, **described(404)})
def get_users(
    access: CurrentAccess, pages: Annotated[ListPages, Depends()], asked: Annotated[TextPageQuery, Query()]
) -> Sequence[UserView]:
    """Everybody with an account on this node."""
    found = [UserView.of(account) for account in access.people.accounts.all()]
    return pages.cut_whole(found, asked.limit, asked.cursor, _place_of)


def _place_of(view: UserView | KeyView) -> str:
    """Return the cursor of an entry: names may hold what an address does not."""
    return hashlib.sha256(f"{view.name}\n{view.created_at}".encode()).hexdigest()[:32]


@router.post("/users", status_code=201, summary="Add somebody", dependencies=[Administers], responses=described(409))
def add_user(access: CurrentAccess, actor: CurrentActor, wanted: NewUser) -> UserView:
    """Add a person. A password has at least 12 characters and is none of the commonest (NIST SP 800-63B)."""
    password = None if wanted.password is None else wanted.password.get_secret_value()
    with actor.acting(AuditedAct.ACCOUNT_CHANGED, account=wanted.name, what="added", given=sorted(wanted.roles)):
        return UserView.of(access.people.accounts.add(wanted.name, wanted.roles, password))


@router.patch("/users/{name}", summary="Change somebody", dependencies=[Administers], responses=described(404, 409))
def change_user(access: CurrentAccess, actor: CurrentActor, name: Name, wanted: UserChange) -> UserView:
    """Give a person other roles or another password, shut them out or let them in: they are signed out everywhere. Or
    say what they are called in what they review.

    The last administrator can be neither shut out nor given away.
    """
    detail = {"account": name, "what": wanted.what} | ({"given": sorted(wanted.roles)} if wanted.roles else {})
    with actor.acting(AuditedAct.ACCOUNT_CHANGED, **detail):
        account = wanted.made(access.people.accounts, name)
    access.sessions.forget()
    return UserView.of(account)


@router.post(
    "/users/{name}/sign-out", status_code=204, summary="Sign somebody out everywhere",
    dependencies=[Administers], responses=described(404),
)  # fmt: skip
def sign_out_user(access: CurrentAccess, actor: CurrentActor, name: Name) -> Response:
    """End every session of a person; they can sign in again."""
    account = access.people.accounts.get(name)
    with actor.acting(AuditedAct.SIGN_OUT, account=account.name, what="everywhere"):
        access.sessions.end_for_account(account.id)
    return Response(status_code=204)


@router.delete(
    "/users/{name}", status_code=204, summary="Remove somebody", dependencies=[Administers],
    responses=described(404, 409),
)  # fmt: skip
def remove_user(access: CurrentAccess, actor: CurrentActor, name: Name) -> Response:
    """Remove a person, and sign them out. To disable them keeps their name from being given to somebody else."""
    with actor.acting(AuditedAct.ACCOUNT_CHANGED, account=name, what="removed"):
        access.people.accounts.remove(name)
    access.sessions.forget()
    return Response(status_code=204)


# --- keys --------------------------------------------------------------------------------------------------------


class NewKey(BaseModel):
    """Which key to make."""

    model_config = ConfigDict(extra="forbid")

    name: _NewName
    roles: _Roles
    expires_days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeKey:
    """A new key. The secret is told only here: keep it where the program finds it, and nowhere else."""

    secret: str
    key: KeyView


@router.get("/keys", summary="Keys of programs", dependencies=[Administers], responses={**PAGED, **described(404)})
def get_keys(
    access: CurrentAccess, pages: Annotated[ListPages, Depends()], asked: Annotated[TextPageQuery, Query()]
) -> Sequence[KeyView]:
    """Every key, also those that are revoked; never a secret."""
    found = [KeyView.of(key) for key in access.people.keys.all()]
    return pages.cut_whole(found, asked.limit, asked.cursor, _place_of)


@router.post("/keys", status_code=201, summary="Make a key", dependencies=[Administers], responses=described(409))
def add_key(access: CurrentAccess, actor: CurrentActor, wanted: NewKey) -> MadeKey:
    """Make a key for a program, which shows it as `Authorization: Bearer …` or as the password of basic."""
    with actor.acting(AuditedAct.KEY_CHANGED, key=wanted.name, what="added", given=sorted(wanted.roles)):
        secret, key = access.people.keys.add(wanted.name, wanted.roles, wanted.expires_days, actor.principal)
    return MadeKey(secret=secret, key=KeyView.of(key))


@router.delete(
    "/keys/{name}", status_code=204, summary="Revoke a key", dependencies=[Administers], responses=described(404)
)
def revoke_key(access: CurrentAccess, actor: CurrentActor, name: Name) -> Response:
    """End a key, and the sessions that were opened with it."""
    with actor.acting(AuditedAct.KEY_CHANGED, key=name, what="revoked"):
        access.people.keys.revoke(name)
    access.sessions.forget()
    return Response(status_code=204)


# --- oneself -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who is asking, what they may do, and until when. `has_password` tells whether it is theirs to change here."""

    name: str
    roles: Sequence[UserRole]
    permissions: Sequence[Permission]
    has_password: bool
    session_expires_at: datetime | None


class PasswordChange(BaseModel):
    """The password that is, and the one that shall be."""

    model_config = ConfigDict(extra="forbid")

    current: _Password
    new: _NewPassword


@router.get("/me", summary="Who am I here?", dependencies=[Reads])
def get_me(identity: CurrentIdentity) -> Me:
    """Name, roles and permissions of whoever asks."""
    principal, session = identity.principal, identity.session
    return Me(
        name=principal.name, roles=sorted(principal.roles),
        permissions=sorted(frozenset().union(*(PERMISSIONS[role] for role in principal.roles))),
        has_password=session is not None and session.opened_by.account_id is not None,
        session_expires_at=session.expires_at if session else identity.until,
    )  # fmt: skip


@router.post(
    "/me/password", status_code=204, summary="Change one's own password", dependencies=[Reads],
    responses=described(409),
)  # fmt: skip
def change_password(
    request: Request, access: CurrentAccess, identity: CurrentIdentity, actor: CurrentActor, wanted: PasswordChange
) -> Response:
    """Change the password of whoever has signed in by one. All their other sessions end; a new cookie comes with it."""
    session, name = identity.session, actor.principal.name
    if session is None or session.opened_by.account_id is None:
        raise ProblemError(409, f"{name} has signed in without a password of this node: there is none to change.")
    tried = TriedFrom(address_of(request), digest_of(request.cookies.get(browser_cookie_name(request), "")))
    with actor.acting(AuditedAct.ACCOUNT_CHANGED, account=name, what="password"):
        if access.people.accounts.sign_in(name, wanted.current.get_secret_value(), tried) is None:
            raise ProblemError(403, "The present password is wrong. Nothing was changed.")
        account = access.people.accounts.set_password(name, wanted.new.get_secret_value())
    access.sessions.forget()
    response = Response(status_code=204)
    secret = access.sessions.open_for(account, session.opened_by.browser_digest)
    if secret is not None:
        set_session_cookie(request, response, access, secret)
    return response


@router.post("/me/sign-out-everywhere", status_code=204, summary="Sign out everywhere", dependencies=[Reads])
def sign_out_everywhere(access: CurrentAccess, identity: CurrentIdentity, actor: CurrentActor) -> Response:
    """End every session of whoever asks, this one too. A key goes on; its sessions end."""
    session = identity.session
    with actor.acting(AuditedAct.SIGN_OUT, what="everywhere"):
        if session is None:
            access.sessions.end_for_key(identity.key_digest)
        elif session.opened_by.account_id is not None:
            access.sessions.end_for_account(session.opened_by.account_id)
        elif session.provider is not None:
            access.sessions.end_for_provider(session.provider.issuer, subject=session.provider.subject)
        else:
            access.sessions.end_for_key(session.opened_by.key_digest)
    return Response(status_code=204)
