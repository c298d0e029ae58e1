"""The read side and the operator's actions once more, on PostgreSQL: the same tests, another database."""

from __future__ import annotations

import pytest

from tests.integration.test_index_actions import *  # noqa: F403 - every test of there runs here too
from tests.integration.test_index_views import *  # noqa: F403


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url
