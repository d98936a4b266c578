"""Steps that the engine decides, steps made at run time, gates, signals and child runs.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from agentflow.domain.error import ConfigurationError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")
_STEP_COLUMNS = (
    "parent", "item", "awaits_turn", "children", "released", "choice", "needs_succeeded", "needs_untaken", "priority",
    "timeout_seconds",
)  # fmt: skip
_RUN_COLUMNS = ("parent_run", "parent_step", "ancestors", "child_plans", "mode")


def upgrade() -> None:
    _widen_steps()
    _widen_runs()
    _create_gate()
    _create_signal()
    _create_guidance()


def downgrade() -> None:
    _refuse_to_forget_graphs()
    op.drop_table("guidance")
    op.drop_table("signal")
    op.drop_table("gate_decision")
    op.drop_table("gate")
    for index, table in (
        ("step_child", "step"),
        ("step_turn", "step"),
        ("step_held_due", "step"),
        ("step_awaits_run", "step"),
        ("run_parent_step", "run"),
        ("run_ancestors", "run"),
    ):
        op.drop_index(index, table_name=table)
    op.drop_column("edge", "labels")
    for table, columns in (("step", _STEP_COLUMNS), ("run", _RUN_COLUMNS), ("run_state", ("priority",))):
        for column in columns:
            op.drop_column(table, column)


def _refuse_to_forget_graphs() -> None:
    """Keep what an older agentflow cannot read: it would not know what the steps made at run time are."""
    found = op.get_bind().execute(
        sa.text(
            "SELECT (SELECT count(*) FROM step WHERE parent IS NOT NULL OR choice IS NOT NULL),"
            " (SELECT count(*) FROM gate), (SELECT count(*) FROM run WHERE parent_run IS NOT NULL)"
        )
    )
    if any(counts := found.one()):
        raise ConfigurationError(
            f"The database cannot be taken below revision {revision}: {counts[0]} decided or made steps, {counts[1]} "
            f"gates and {counts[2]} child runs stand in it. Stay, or restore a backup from before them.",
        )


def _widen_steps() -> None:
    op.add_column("step", sa.Column("parent", sa.Text))
    op.add_column("step", sa.Column("item", sa.Integer))
    op.add_column("step", sa.Column("awaits_turn", sa.Boolean, nullable=False, server_default=sa.text("false")))
    op.add_column("step", sa.Column("children", sa.Integer))
    op.add_column("step", sa.Column("released", sa.Integer))
    op.add_column("step", sa.Column("choice", sa.Text))
    op.add_column("step", sa.Column("needs_succeeded", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("step", sa.Column("needs_untaken", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("step", sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("step", sa.Column("timeout_seconds", sa.Float))
    op.add_column("edge", sa.Column("labels", JSONB(none_as_null=True)))
    op.create_index("step_child", "step", ["run_id", "parent", "item"], postgresql_where=sa.text("parent IS NOT NULL"))
    op.create_index("step_turn", "step", ["run_id", "parent", "item"], postgresql_where=sa.text("awaits_turn"))
    op.create_index(
        "step_awaits_run", "step", ["run_id"], postgresql_where=sa.text("state = 'held' AND action = 'run'")
    )
    op.create_index(
        "step_held_due", "step", ["not_before"], postgresql_where=sa.text("state = 'held' AND not_before IS NOT NULL")
    )
    # What has succeeded so far of steps that still wait; what was not taken counts from now on.
    op.execute("""
        UPDATE step SET needs_succeeded = counted.succeeded
        FROM (
            SELECT edge.to_step, count(*) AS succeeded
            FROM edge JOIN step AS need ON need.id = edge.from_step
            WHERE need.state = 'succeeded' GROUP BY edge.to_step
        ) AS counted
        WHERE step.id = counted.to_step AND step.state = 'pending'
    """)


def _widen_runs() -> None:
    op.add_column("run", sa.Column("parent_run", sa.Uuid))
    op.add_column("run", sa.Column("parent_step", sa.Text))
    op.add_column("run", sa.Column("ancestors", JSONB(none_as_null=True)))
    op.add_column("run", sa.Column("child_plans", JSONB(none_as_null=True)))
    op.add_column("run", sa.Column("mode", sa.Text, nullable=False, server_default=sa.text("'auto'")))
    op.add_column("run_state", sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.create_index(
        "run_parent_step", "run", ["parent_run", "parent_step"], postgresql_where=sa.text("parent_run IS NOT NULL")
    )
    op.create_index(
        "run_ancestors", "run", ["ancestors"], postgresql_using="gin", postgresql_where=sa.text("ancestors IS NOT NULL")
    )


def _create_gate() -> None:
    op.create_table(
        "gate",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("run_id", sa.Uuid, sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
        sa.Column("step_id", sa.Uuid, sa.ForeignKey("step.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("terms", JSONB(none_as_null=True), nullable=False),
        sa.Column("facts", JSONB(none_as_null=True), nullable=False),
        sa.Column("plan_fingerprint", sa.Text, nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("is_escalated", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("(decided_at IS NOT NULL) = (state <> 'open')", name=op.f("gate_decided_iff_closed")),
        sa.CheckConstraint(
            "kind IN ('approval', 'artifacts', 'consensus', 'policy', 'quality', 'safety')",
            name=op.f("gate_kind_known"),
        ),
        sa.CheckConstraint(
            "state IN ('approved', 'expired', 'open', 'rejected', 'withdrawn')", name=op.f("gate_state_known")
        ),
        sa.UniqueConstraint("step_id", "round", name=op.f("gate_step_id_round_unique")),
    )
    op.create_index("gate_open", "gate", ["opened_at"], postgresql_where=sa.text("state = 'open'"))
    op.create_index("gate_run_id", "gate", ["run_id"])
    op.create_table(
        "gate_decision",
        sa.Column("gate_id", sa.Uuid, sa.ForeignKey("gate.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("actor", sa.Text, primary_key=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("why", sa.Text),
        sa.Column("given", JSONB(none_as_null=True)),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    )


def _create_signal() -> None:
    op.create_table(
        "signal",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("run_id", sa.Uuid, sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("data", JSONB(none_as_null=True)),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("taken_by", sa.Uuid),
    )
    op.create_index("signal_run_id", "signal", ["run_id"])
    op.create_index("signal_waiting", "signal", ["run_id", "name", "id"], postgresql_where=sa.text("taken_by IS NULL"))


def _create_guidance() -> None:
    op.create_table(
        "guidance",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("run_id", sa.Uuid, sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
        sa.Column("step_key", sa.Text),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("taken_by", sa.Uuid),
    )
    op.create_index("guidance_run_id", "guidance", ["run_id", "id"])
