"""Decisions that failed, beside which another can stand; results whose decision has fallen are unreviewed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_BEFORE, _NOW = "state <> 'FALLEN'", "state NOT IN ('FALLEN', 'FAILED')"


def upgrade() -> None:
    _let_one_stand(_NOW)
    op.execute(
        "UPDATE results SET review_state = 'UNREVIEWED' WHERE review_id IS NULL AND review_state <> 'UNREVIEWED' "
        "AND job_key IN (SELECT job_key FROM reviews WHERE state = 'FALLEN') "
        "AND job_key NOT IN (SELECT job_key FROM reviews WHERE state IN ('DECIDED', 'DONE'))"
    )


def downgrade() -> None:
    op.execute("UPDATE reviews SET state = 'FALLEN' WHERE state = 'FAILED'")
    _let_one_stand(_BEFORE)


def _let_one_stand(condition: str) -> None:
    op.drop_index("uq_reviews_standing", "reviews")
    standing = sa.text(condition)
    op.create_index(
        "uq_reviews_standing", "reviews", ["job_key"], unique=True, sqlite_where=standing, postgresql_where=standing
    )
