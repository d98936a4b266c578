"""What the API does behind the answer: jobs, with how far they came.

Revision 0006.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("beaten_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger),
        sa.Column("result", JSONB),
        sa.Column("problem", JSONB),
        sa.CheckConstraint("kind IN ('prune', 'verify')", name="kind_known"),
        sa.CheckConstraint("state IN ('done', 'failed', 'lost', 'running')", name="state_known"),
        sa.CheckConstraint("(ended_at IS NULL) = (state = 'running')", name="ended_unless_running"),
        sa.CheckConstraint("(result IS NOT NULL) = (state = 'done')", name="result_iff_done"),
        sa.CheckConstraint("(problem IS NOT NULL) = (state = 'failed')", name="problem_iff_failed"),
    )
    op.create_index("job_under_way", "job", ["kind"], unique=True, postgresql_where=sa.text("state = 'running'"))


def downgrade() -> None:
    op.drop_table("job")
