"""Whether a model may run, decided for every job from the files as they lie there and from what was decided on them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dicom_node.analysis.answer import Declined
from dicom_node.config.running import InferenceSettings
from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.index.database import Database
from dicom_node.index.decided.model_decisions import Decision, DecisionKind, decisions_on
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.cards.digest import digest_of
from dicom_node.sandbox.confinement import lacking


class Standing(StrEnum):
    """Where a model stands; only `LIVE` ones run. The others name the reason of the jobs that were not run."""

    LIVE = "LIVE"
    UNUSABLE = "MODEL_UNUSABLE"
    NOT_ACCEPTED = "MODEL_NOT_ACCEPTED"
    ALTERED = "MODEL_ALTERED"
    NOT_CONFINED = "MODEL_NOT_CONFINED"
    NOT_ACTIVATED = "MODEL_NOT_ACTIVATED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStanding:
    """Where a model stands and why, in a sentence that says what to do. `folder_digest` is what can be accepted."""

    name: str
    version: str
    standing: Standing
    text: str
    folder_digest: str = ""
    accepted_by: str = ""
    accepted_at: datetime | None = None
    activated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Whose golden studies must have held: ``none``, ``added`` (all but the shipped models) or ``all``; and where.

    `unconfined` says what keeps this system from confining models, where none may run otherwise.
    """

    require_activation: str
    environment: str
    unconfined: str = ""


def rule_of(settings: InferenceSettings) -> Rule:
    """Return the rule of a configuration on this machine."""
    unconfined = lacking() if settings.confine == "require" else ""
    return Rule(settings.require_activation, environment(settings.device), unconfined)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A model as it lies there now, its digest, and why it may not run (`None`: it may)."""

    card: ModelCard
    digest: str
    declined: Declined | None = None


def admit_any(card: ModelCard, parameters: Mapping[str, float]) -> Admitted:  # noqa: ARG001 - as `ModelAdmission.admit`
    """Admit a model whoever made it: for tests and tools that brought it themselves."""
    return Admitted(card, card.digest)


@dataclass(frozen=True, slots=True)
class ModelAdmission:
    """Says who may run, by the rule of a site."""

    database: Database
    rule: Rule

    def standing(self, card: ModelCard) -> ModelStanding:
        """Look at the folder of a card as it is now. Raises `IndexUnavailable`."""
        return self._look(card)[1]

    def admit(self, card: ModelCard, parameters: Mapping[str, float]) -> Admitted:
        """Say whether a job may be given to this model, from its files as they are now. Raises `IndexUnavailable`."""
        found, now = self._look(card)
        if now.standing is Standing.LIVE:
            return Admitted(found, found.digest)
        identity = _unverified(card, parameters)
        message = f"The model {card.name} {card.version} was not run: {now.text}"
        return Admitted(card, identity.digest, Declined(now.standing.value, message, identity))

    def _look(self, card: ModelCard) -> tuple[ModelCard, ModelStanding]:
        """Return the card as it lies in the folder now (the old one, where that cannot be used) and where it stands."""
        try:
            found = load_card(card.folder)
            _ = found.digest, found.folder_digest  # kept in the card: what was judged is what is admitted
        except (SettingsError, ModelUnavailable) as error:
            unusable = ModelStanding(name=card.name, version=card.version, standing=Standing.UNUSABLE, text=str(error))
            return card, unusable
        with self.database.read() as connection:
            decisions = decisions_on(connection, found.name)
        return found, judge(found, decisions, self.rule)


def _unverified(card: ModelCard, parameters: Mapping[str, float]) -> ModelIdentity:
    """Name a model that must not run; what cannot even be read has the digest of nothing."""
    try:
        digest = card.seen_digest
    except ModelUnavailable:
        digest = digest_of(())
    return card.identity(parameters, digest=digest)


def judge(card: ModelCard, decisions: Sequence[Decision], rule: Rule) -> ModelStanding:
    """Decide from what was decided, newest first, on a model whose files are those of its card. Pure."""
    accepted = None if card.is_shipped else _acceptance(card, decisions)
    run = _latest_run(card, decisions, rule)
    activated = run if run is not None and run.kind is DecisionKind.ACTIVATED else None
    standing, text = Standing.LIVE, ""
    if not card.is_shipped and accepted is None:
        standing, text = _not_accepted(card, decisions)
    elif rule.unconfined:
        standing, text = Standing.NOT_CONFINED, _not_confined(rule)
    elif activated is None and _must_be_activated(card, run, rule):
        standing, text = Standing.NOT_ACTIVATED, _not_activated(card, run)
    return ModelStanding(
        name=card.name,
        version=card.version,
        standing=standing,
        text=text,
        folder_digest=card.folder_digest,
        accepted_by="part of the release" if card.is_shipped else accepted.decided_by if accepted else "",
        accepted_at=accepted.at if accepted else None,
        activated_at=activated.at if activated else None,
    )


def _must_be_activated(card: ModelCard, run: Decision | None, rule: Rule) -> bool:
    """A model whose golden studies failed here is never live, unless nobody asks for them at all."""
    if rule.require_activation == "none":
        return False
    return rule.require_activation == "all" or not card.is_shipped or run is not None


def _acceptance(card: ModelCard, decisions: Sequence[Decision]) -> Decision | None:
    kinds = (DecisionKind.ACCEPTED, DecisionKind.WITHDRAWN)
    latest = next((d for d in decisions if d.kind in kinds and d.digest == card.folder_digest), None)
    return latest if latest is not None and latest.kind is DecisionKind.ACCEPTED else None


def _not_accepted(card: ModelCard, decisions: Sequence[Decision]) -> tuple[Standing, str]:
    do = f"Look at it, then run: dicom-node models accept {card.name}"
    if any(d.digest == card.folder_digest for d in decisions):
        return Standing.NOT_ACCEPTED, f"its acceptance was withdrawn. {do}"
    if any(d.kind is DecisionKind.ACCEPTED for d in decisions):
        return Standing.ALTERED, f"its files are not those that were accepted (now {card.folder_digest[:12]}…). {do}"
    return Standing.NOT_ACCEPTED, f"nobody has accepted its files ({card.folder_digest[:12]}…). {do}"


def _not_confined(rule: Rule) -> str:
    return (
        f'inference.confine is "require", and this system cannot confine it: {rule.unconfined}. Run models on a system '
        'that can, or set confine = "auto" and accept only models whose code you trust.'
    )


def _not_activated(card: ModelCard, run: Decision | None) -> str:
    if run is not None:
        return "its golden studies gave other answers on this machine. `dicom-node models activate` shows which."
    return f"its golden studies have not been run on this machine. Run: dicom-node models activate {card.name}"


def _latest_run(card: ModelCard, decisions: Sequence[Decision], rule: Rule) -> Decision | None:
    """Return the last run of the golden studies of these very files on this kind of machine."""
    kinds = (DecisionKind.ACTIVATED, DecisionKind.GOLDEN_FAILED)
    here = (d for d in decisions if d.kind in kinds and d.environment == rule.environment)
    return next((d for d in here if d.digest == card.digest), None)


# --- the machine: others may give other numbers --------------------------------------------------------------------

_LIBRARIES = ("numpy", "scipy", "pydicom", "torch", "monai", "onnxruntime", "transformers")


@cache
def environment(device: str) -> str:
    """Name processor, graphics cards, libraries and the configured device; equal texts mean equal answers.

    No host name: a container that is started again is the same machine.
    """
    libraries = [f"{name} {found}" for name in _LIBRARIES if (found := _version(name))]
    machine = [platform.system(), platform.machine(), _processor(), *_graphics(), f"device {device}"]
    parts = [*machine, f"Python {platform.python_version()}"]
    return "; ".join([*parts, *libraries])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")


def _graphics() -> list[str]:
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for path in found for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
