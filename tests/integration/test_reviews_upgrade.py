"""An index from before there were reviews, on both databases."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import select

from dicom_node.core.principal import Principal, UserRole, key_at_provider
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.people.sessions import ProviderSession
from dicom_node.index.tables import results, reviews
from dicom_node.people.accounts import Accounts
from dicom_node.people.sessions import Sessions
from tests.support.results.seeded import seed


def test_results_and_people_of_an_index_from_before_are_unreviewed_and_unnamed(index: Database, tmp_path) -> None:
    Accounts(index).add("alice", [UserRole.REVIEWER], None)
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        seed(connection, tmp_path)
        config.attributes["connection"] = connection
        command.downgrade(config, "0017")
    assert index.schema_version() == "0017"
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    with index.read() as connection:
        rows = connection.execute(select(results.c.review_state, results.c.review_id)).all()
        assert len(rows) > 2
        assert {tuple(row) for row in rows} == {("UNREVIEWED", None)}
        assert connection.execute(select(reviews)).all() == []


def test_a_session_from_before_people_were_told_apart_is_that_of_issuer_and_subject(index: Database) -> None:
    anna = Principal("anna (sso.example)", frozenset({UserRole.REVIEWER}), key_at_provider("https://sso.example", "17"))
    secret = Sessions(index).open(anna, ProviderSession(issuer="https://sso.example", subject="17"))
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0021")
    index.migrate()
    session = Sessions(index).find(secret)
    assert session is not None
    assert session.principal == anna
