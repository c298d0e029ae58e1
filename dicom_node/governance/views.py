"""What the API and the status page show of the models: who they are, and whether they may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from dicom_node.governance.admission import Admission, ModelStanding, Standing
from dicom_node.inference.cards.card import ModelCard
from dicom_node.model import ModelIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView(ModelIdentity):
    """A model and where it stands; `why` is empty for one that may run, and says what to do for one that may not."""

    standing: Standing
    why: str = ""
    folder_digest: str = ""
    accepted_by: str = ""
    accepted_at: datetime | None = None
    activated_at: datetime | None = None


def model_views(cards: Mapping[str, ModelCard], admission: Admission) -> dict[str, ModelView]:
    """Look at every model as it lies there now. Raises `IndexUnavailable`."""
    return {name: _view(card, admission) for name, card in cards.items()}


def _view(card: ModelCard, admission: Admission) -> ModelView:
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
