"""Where a model stands, asked from outside a running node: looking must not make a database."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.config.settings import Settings
from dicom_node.errors import IndexUnavailable
from dicom_node.governance.admission import ModelStanding, judge, rule_of
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.decisions import Decision, decisions_on
from dicom_node.inference.cards.card import ModelCard


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
