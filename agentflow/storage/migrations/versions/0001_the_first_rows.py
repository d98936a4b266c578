"""The first rows: plans, runs, steps, attempts, artifacts, audit events, leaders and the installation.

Revision 0001. On the way down audit_event stays: audit rows survive, and the way up finds them again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_installation()
    _create_run()
    _create_step()
    _create_attempt()
    if not sa.inspect(op.get_bind()).has_table("audit_event"):
        _create_audit()


def downgrade() -> None:
    for table in ("artifact", "edge", "attempt", "step", "run_state", "run", "plan", "leader", "installation"):
        op.drop_table(table)


def _create_installation() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("store_id", sa.Uuid(), nullable=False),
        sa.Column("audit_key_fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("installation_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("installation_pkey")),
    )
    op.create_table(
        "leader",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", name=op.f("leader_pkey")),
    )


def _create_run() -> None:
    op.create_table(
        "plan",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", JSONB(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("plan_pkey")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("plan_fingerprint", sa.Text(), nullable=False),
        sa.Column("vars", JSONB(none_as_null=True), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["plan_fingerprint"], ["plan.fingerprint"], name=op.f("run_plan_fingerprint_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("run_pkey")),
        sa.UniqueConstraint("project", "idempotency_key", name=op.f("run_project_idempotency_key_unique")),
    )
    op.create_index("run_project_created_at", "run", ["project", "created_at", "id"], unique=False)
    op.create_index("run_created_at", "run", ["created_at", "id"], unique=False)
    op.create_table(
        "run_state",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", JSONB(none_as_null=True), nullable=True),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("open_sinks", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_sequence", sa.Integer(), nullable=False),
        sa.Column("event_head", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (state IN ('cancelled', 'completed', 'failed', 'partial'))",
            name=op.f("run_state_ended_iff_final"),
        ),
        sa.CheckConstraint(
            "state IN ('cancelled', 'cancelling', 'completed', 'failed', 'failing', 'partial', 'pending', 'running')",
            name=op.f("run_state_state_known"),
        ),
        sa.CheckConstraint("open_sinks >= 0", name=op.f("run_state_open_sinks_not_negative")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("run_state_run_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("run_state_pkey")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(
        "run_state_open",
        "run_state",
        ["run_id"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('cancelled', 'completed', 'failed', 'partial')"),
    )


def _create_step() -> None:
    op.create_table(
        "step",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("when_rule", sa.Text(), nullable=False),
        sa.Column("is_sink", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", JSONB(none_as_null=True), nullable=True),
        sa.Column("needs_open", sa.Integer(), nullable=False),
        sa.Column("needs_failed", sa.Integer(), nullable=False),
        sa.Column("needs_skipped", sa.Integer(), nullable=False),
        sa.Column("needs_cancelled", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("result", JSONB(none_as_null=True), nullable=True),
        sa.Column("event_sequence", sa.Integer(), nullable=False),
        sa.Column("event_head", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("sent_at IS NULL OR state IN ('ready', 'retrying')", name=op.f("step_sent_only_while_due")),
        sa.CheckConstraint("state <> 'ready' OR needs_open = 0", name=op.f("step_ready_has_its_needs")),
        sa.CheckConstraint(
            "state IN ('cancelled', 'failed', 'held', 'pending', 'ready', "
            "'retrying', 'running', 'skipped', 'succeeded')",
            name=op.f("step_state_known"),
        ),
        sa.CheckConstraint("needs_open >= 0", name=op.f("step_needs_open_not_negative")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("step_run_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("step_pkey")),
        sa.UniqueConstraint("run_id", "key", name=op.f("step_run_id_key_unique")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "step_due", "step", ["not_before"], unique=False, postgresql_where=sa.text("state IN ('ready', 'retrying')")
    )
    op.create_table(
        "edge",
        sa.Column("from_step", sa.Uuid(), nullable=False),
        sa.Column("to_step", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["from_step"], ["step.id"], name=op.f("edge_from_step_fkey"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["to_step"], ["step.id"], name=op.f("edge_to_step_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("from_step", "to_step", name=op.f("edge_pkey")),
    )
    op.create_index("edge_to_step", "edge", ["to_step"], unique=False)


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("claim_token", sa.Uuid(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_stop_requested", sa.Boolean(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("reason", JSONB(none_as_null=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (state IN ('cancelled', 'failed', 'lost', 'released', 'succeeded', 'timed_out'))",
            name=op.f("attempt_ended_iff_final"),
        ),
        sa.CheckConstraint(
            "state IN ('cancelled', 'failed', 'lost', 'released', 'running', 'succeeded', 'timed_out')",
            name=op.f("attempt_state_known"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("attempt_run_id_fkey"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["step_id"], ["step.id"], name=op.f("attempt_step_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("attempt_pkey")),
        sa.UniqueConstraint("step_id", "number", name=op.f("attempt_step_id_number_unique")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "attempt_one_running", "attempt", ["step_id"], unique=True, postgresql_where=sa.text("state = 'running'")
    )
    op.create_index("attempt_run_id", "attempt", ["run_id"], unique=False)
    op.create_table(
        "artifact",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("bytes_seen", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempt.id"], name=op.f("artifact_attempt_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("artifact_run_id_fkey"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["step_id"], ["step.id"], name=op.f("artifact_step_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("attempt_id", "name", name=op.f("artifact_pkey")),
    )
    op.create_index("artifact_step_id", "artifact", ["step_id"], unique=False)


def _create_audit() -> None:
    op.create_table(
        "audit_event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("moved", JSONB(none_as_null=True), nullable=False),
        sa.Column("reason", JSONB(none_as_null=True), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("facts", JSONB(none_as_null=True), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_event_pkey")),
        sa.UniqueConstraint(
            "run_id",
            "step_id",
            "sequence",
            name=op.f("audit_event_run_id_step_id_sequence_unique"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.execute("""
        CREATE FUNCTION audit_event_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit events are immutable: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER audit_event_no_update BEFORE UPDATE OR DELETE ON audit_event
        FOR EACH ROW EXECUTE FUNCTION audit_event_refuse_change()
    """)
    op.execute("""
        CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event
        FOR EACH STATEMENT EXECUTE FUNCTION audit_event_refuse_change()
    """)
