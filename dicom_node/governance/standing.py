"""What people are shown of the models, in a running node and outside of one: who they are, and whether they may run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from dicom_node.config.settings import Settings
from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import IndexUnavailable
from dicom_node.governance.admission import ModelAdmission, ModelStanding, Standing, judge, rule_of
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.decided.model_decisions import Decision, decisions_on
from dicom_node.inference.cards.card import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView(ModelIdentity):
    """A model and where it stands; `why` is empty for one that may run, and says what to do for one that may not."""

    standing: Standing
    why: str = ""
    folder_digest: str = ""
    accepted_by: str = ""
    accepted_at: datetime | None = None
    activated_at: datetime | None = None


def model_views(cards: Mapping[str, ModelCard], admission: ModelAdmission) -> dict[str, ModelView]:
    """Look at every model as it lies there now. Raises `IndexUnavailable`."""
    return {name: _view(card, admission) for name, card in cards.items()}


def _view(card: ModelCard, admission: ModelAdmission) -> ModelView:
    admitted = admission.admit(card, {})
    identity = admitted.card.identity({}, digest=admitted.digest)
    return seen(identity, admission.standing(card))


def seen(identity: ModelIdentity, standing: ModelStanding) -> ModelView:
    """Put who a model is and where it stands together."""
    return ModelView(
        **asdict(identity),
        standing=standing.standing,
        why=standing.text,
        folder_digest=standing.folder_digest,
        accepted_by=standing.accepted_by,
        accepted_at=standing.accepted_at,
        activated_at=standing.activated_at,
    )


# --- outside a running node: looking must not make a database --------------------------------------------------------


def standing_so_far(card: ModelCard, settings: Settings) -> ModelStanding:
    """Return where a model stands by what has been decided; without a database nothing has.

    Raises `ModelUnavailable` for a model whose files are not those of its card.
    """
    return judge(card, _decisions(card.name, settings), rule_of(settings.inference))


def _decisions(model: str, settings: Settings) -> Sequence[Decision]:
    if not settings.database.url and not (settings.node.data_dir / "node.sqlite").exists():
        return []
    database = Database(settings.database_url)
    try:
        if database.schema_version() != SCHEMA_HEAD:
            return []
        with database.read() as connection:
            return decisions_on(connection, model)
    except IndexUnavailable:
        return []
    finally:
        database.close()
