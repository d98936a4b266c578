"""Model calls and what they used, the budgets of runs, the slots and rates of limits.

Revision 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STEP_COLUMNS = (
    ("slot_key", sa.Text()),
    ("slot_limit", sa.Integer()),
    ("rate_key", sa.Text()),
    ("rate_interval_seconds", sa.Float()),
    ("rate_burst", sa.Integer()),
    ("ticket_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    _widen_rows()
    _create_run_budget()
    _create_limits()
    _create_llm_call()


def downgrade() -> None:
    for table in ("llm_call", "slot", "rate", "run_budget"):
        op.drop_table(table)
    op.drop_index("attempt_reserving", table_name="attempt")
    op.drop_column("attempt", "reserved")
    op.drop_index("step_limited", table_name="step")
    op.drop_column("step", "postponed")
    for name, _ in _STEP_COLUMNS:
        op.drop_column("step", name)
    for name in ("rested_seconds", "rests_since", "exhausted"):
        op.drop_column("run_state", name)
    op.drop_column("run", "directive")


def _widen_rows() -> None:
    op.add_column("run", sa.Column("directive", sa.Text(), nullable=True))
    op.add_column("run_state", sa.Column("exhausted", JSONB(none_as_null=True), nullable=True))
    op.add_column("run_state", sa.Column("rests_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run_state", sa.Column("rested_seconds", sa.Float(), server_default=sa.text("0"), nullable=False))
    for name, kind in _STEP_COLUMNS:
        op.add_column("step", sa.Column(name, kind, nullable=True))
    op.add_column("step", sa.Column("postponed", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "step_limited",
        "step",
        ["slot_key", "rate_key"],
        postgresql_where=sa.text(
            "state IN ('ready', 'retrying', 'running') AND (slot_key IS NOT NULL OR rate_key IS NOT NULL)"
        ),
    )
    op.add_column("attempt", sa.Column("reserved", JSONB(none_as_null=True), nullable=True))
    op.create_index(
        "attempt_reserving",
        "attempt",
        ["run_id"],
        postgresql_where=sa.text("state = 'running' AND reserved IS NOT NULL"),
    )


def _create_run_budget() -> None:
    op.create_table(
        "run_budget",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.Column("usd_nano", sa.BigInteger(), nullable=True),
        sa.Column("active_seconds", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("run_budget_run_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("run_budget_pkey")),
    )


def _create_limits() -> None:
    op.create_table(
        "slot",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("held_since", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("slot_attempt_id_fkey"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("key", "number", name=op.f("slot_pkey")),
        sa.UniqueConstraint("attempt_id", name=op.f("slot_attempt_id_unique")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "rate",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("rate_pkey")),
        postgresql_with={"fillfactor": 50},
    )


def _create_llm_call() -> None:
    op.create_table(
        "llm_call",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("directive", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd_nano", sa.BigInteger(), nullable=True),
        sa.Column("is_estimated", sa.Boolean(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_seconds", sa.Float(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=True),
        sa.Column("answer_sha256", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempt.id"], name=op.f("llm_call_attempt_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("llm_call_run_id_fkey"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["step_id"], ["step.id"], name=op.f("llm_call_step_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("llm_call_pkey")),
    )
    op.create_index("llm_call_run_id", "llm_call", ["run_id"])
    op.create_index("llm_call_project_started_at", "llm_call", ["project", "started_at"])
    op.create_index("llm_call_started_at", "llm_call", ["started_at"])
