"""The settings that the node runs with: which, whether their file differs by now, and to have it read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request

from dicom_node.api.access import Administers, CurrentPrincipal, Reads, address_of
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.audited import audited
from dicom_node.api.parts import Parts
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import SettingsError
from dicom_node.operate.configuration.told import ConfigurationState

router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadedSettings:
    """What a reload has changed, in words and without secrets; nothing where the file says what runs already.

    `warnings` say what else is to be known: deliveries that wait for a destination that is gone. `revision` tells the
    settings that run now from others.
    """

    revision: str
    changes: Sequence[str]
    warnings: Sequence[str]


@router.get("/configuration", tags=["node"], summary="The settings that run, and whether their file differs")
def get_configuration(parts: Parts) -> Sequence[ConfigurationState]:
    """One entry for each process of the node. `differs` says what a reload would change, `needs_restart` names what of
    it takes effect at a restart only, and `problem` says why the file cannot be used as it is."""
    return [] if parts.configuration is None else parts.configuration.states()


@router.post(
    "/configuration/reload",
    tags=["admin"],
    summary="Read the settings again, without a restart",
    dependencies=[Administers, audited(AuditedAct.SETTINGS_RELOADED)],
    responses=described(403, 409),
)
def reload_configuration(request: Request, parts: Parts, principal: CurrentPrincipal) -> ReloadedSettings:
    """The file is checked as at a start. Peers, AE titles, users, destinations, sources, routes and the log level are
    taken over, for what begins from now on. Where anything else differs, or the file cannot be used, nothing is changed
    and the answer says why (409). The other processes of the node follow within seconds."""
    if parts.configuration is None:
        raise ProblemError(409, "This node does not read its settings again. Restart it.")
    try:
        answer = parts.configuration.reload(principal, address_of(request))
        parts.configuration.ask_others(principal)
    except SettingsError as error:
        raise ProblemError(409, str(error)) from error
    parts.wake()
    return ReloadedSettings(
        revision=parts.configuration.state.revision, changes=answer.changes, warnings=answer.warnings
    )
