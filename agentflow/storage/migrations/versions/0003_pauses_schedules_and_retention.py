"""Pauses and maintenance, forks, workers, stored plans and schedules, tombstones and checkpoints.

Revision 0003.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from agentflow.domain.error import ConfigurationError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")
_TABLES = ("worker", "stored_plan", "firing", "schedule", "beat_entry", "tombstone", "folded_usage", "checkpoint")


def upgrade() -> None:
    _widen_rows()
    _create_worker()
    _create_stored_plan()
    _create_schedule()
    _create_firing()
    _create_retention()
    _let_pruning_through()


def downgrade() -> None:
    _refuse_to_forget_prunings()
    op.execute("DROP FUNCTION prune_run(uuid, text)")
    op.execute(_REFUSE_CHANGE.format(exception=""))
    for table in _TABLES:
        op.drop_table(table)
    op.create_foreign_key(op.f("artifact_run_id_fkey"), "artifact", "run", ["run_id"], ["id"], ondelete="CASCADE")
    op.create_foreign_key(op.f("llm_call_step_id_fkey"), "llm_call", "step", ["step_id"], ["id"], ondelete="CASCADE")
    op.drop_index("run_plan_fingerprint", table_name="run")
    op.drop_constraint(op.f("run_state_rests_for_a_reason"), "run_state")
    # A pause cannot be told any more: what rested for it alone goes on, without its rest so far.
    op.execute("""
        UPDATE run_state
        SET rested_seconds = rested_seconds + extract(epoch FROM now() - rests_since), rests_since = NULL
        WHERE rests_since IS NOT NULL AND exhausted IS NULL
    """)
    for index, table in (
        ("run_state_unsigned", "run_state"),
        ("run_state_ended", "run_state"),
        ("attempt_lost", "attempt"),
        ("step_suspected", "step"),
        ("step_poisoned", "step"),
    ):
        op.drop_index(index, table_name=table)
    for table, columns in (
        ("installation", ("event_head", "event_sequence", "maintenance")),
        ("attempt", ("is_yield_requested",)),
        ("step", ("joint_losses",)),
        ("run_state", ("checkpoint", "paused", "rested_until")),
        ("run", ("forked_at_step", "forked_from")),
    ):
        for column in columns:
            op.drop_column(table, column)


def _refuse_to_forget_prunings() -> None:
    """Keep what the events of prunings vouch for: without it no audit verifies, and budgets see less."""
    pruned = op.get_bind().execute(
        sa.text("SELECT (SELECT count(*) FROM tombstone), (SELECT count(*) FROM folded_usage)")
    )
    tombstones, folded = pruned.one()
    if tombstones or folded:
        raise ConfigurationError(
            f"The database cannot be taken below revision {revision}: {tombstones} runs were pruned, and their "
            "tombstones and what they used would be lost. Stay, or restore a backup from before the first pruning.",
            tombstones=tombstones,
        )


def _widen_rows() -> None:
    op.add_column("run", sa.Column("forked_from", sa.Uuid(), nullable=True))
    op.add_column("run", sa.Column("forked_at_step", sa.Text(), nullable=True))
    op.add_column("run_state", sa.Column("rested_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run_state", sa.Column("paused", JSONB(none_as_null=True), nullable=True))
    op.add_column("run_state", sa.Column("checkpoint", sa.Integer(), nullable=True))
    op.create_check_constraint(
        op.f("run_state_rests_for_a_reason"),
        "run_state",
        "(rests_since IS NOT NULL) = (exhausted IS NOT NULL OR paused IS NOT NULL)",
    )
    for name, columns, predicate in (
        ("run_state_ended", ["ended_at"], "ended_at IS NOT NULL"),
        ("run_state_unsigned", ["ended_at"], "ended_at IS NOT NULL AND checkpoint IS NULL"),
    ):
        op.create_index(name, "run_state", columns, postgresql_where=sa.text(predicate))
    op.add_column("step", sa.Column("joint_losses", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index("step_suspected", "step", ["joint_losses"], postgresql_where=sa.text("joint_losses > 0"))
    op.create_index("attempt_lost", "attempt", ["lease_until"], postgresql_where=sa.text("state = 'lost'"))
    op.create_index(
        "step_poisoned",
        "step",
        ["run_id"],
        postgresql_where=sa.text("state = 'failed' AND (reason ->> 'code') = 'poisoned'"),
    )
    op.add_column(
        "attempt", sa.Column("is_yield_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("installation", sa.Column("maintenance", JSONB(none_as_null=True), nullable=True))
    op.add_column(
        "installation", sa.Column("event_sequence", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("installation", sa.Column("event_head", sa.LargeBinary(), nullable=True))
    # Audit rows survive a way down: the chain goes on behind those of an earlier way up.
    op.execute("""
        UPDATE installation SET event_sequence = last.sequence, event_head = last.mac
        FROM (SELECT sequence, mac FROM audit_event WHERE run_id = '00000000-0000-0000-0000-000000000000'
              ORDER BY sequence DESC LIMIT 1) AS last
    """)
    # A run is deleted through these: a key without an index is a scan of the table for every row. What each of the two
    # says follows from the attempt's key.
    op.drop_constraint(op.f("artifact_run_id_fkey"), "artifact")
    op.drop_constraint(op.f("llm_call_step_id_fkey"), "llm_call")
    op.create_index("run_plan_fingerprint", "run", ["plan_fingerprint"])
    op.create_index("run_forked_from", "run", ["forked_from"], postgresql_where=sa.text("forked_from IS NOT NULL"))


def _create_worker() -> None:
    op.create_table(
        "worker",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("queues", JSONB(none_as_null=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("consumed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("consumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("worker_pkey")),
        postgresql_with={"fillfactor": 50},
    )


def _create_stored_plan() -> None:
    op.create_table(
        "stored_plan",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("pushed_by", sa.Text(), nullable=False),
        sa.Column("pushed_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(["fingerprint"], ["plan.fingerprint"], name=op.f("stored_plan_fingerprint_fkey")),
        sa.PrimaryKeyConstraint("project", "name", "version", name=op.f("stored_plan_pkey")),
    )


def _create_schedule() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("spec", JSONB(none_as_null=True), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("jitter_seconds", sa.Float(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("max_queued", sa.Integer(), nullable=False),
        sa.Column("catch_up_seconds", sa.Float(), nullable=False),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("plan_version", sa.Integer(), nullable=True),
        sa.Column("vars", JSONB(none_as_null=True), nullable=False),
        sa.Column("budget", JSONB(none_as_null=True), nullable=True),
        sa.Column("directive", sa.Text(), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fire_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("held_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint("kind IN ('cron', 'interval', 'once')", name=op.f("schedule_kind_known")),
        sa.CheckConstraint(
            "overlap IN ('allow', 'cancel-previous', 'queue', 'skip')", name=op.f("schedule_overlap_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("schedule_pkey")),
        sa.UniqueConstraint("project", "name", name=op.f("schedule_project_name_unique")),
    )
    op.create_index(
        "schedule_due", "schedule", ["fire_at"], postgresql_where=sa.text("is_enabled AND fire_at IS NOT NULL")
    )


def _create_firing() -> None:
    op.create_table(
        "firing",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("reason", JSONB(none_as_null=True), nullable=True),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "state IN ('due', 'missed', 'queued', 'refused', 'skipped', 'started', 'starting')",
            name=op.f("firing_state_known"),
        ),
        sa.CheckConstraint("cause IN ('backfill', 'run_now', 'scheduled')", name=op.f("firing_cause_known")),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedule.id"], name=op.f("firing_schedule_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("schedule_id", "due_at", name=op.f("firing_pkey")),
    )
    op.create_index(
        "firing_open",
        "firing",
        ["schedule_id", "due_at"],
        postgresql_where=sa.text("state IN ('due', 'queued', 'starting')"),
    )
    op.create_index("firing_run_id", "firing", ["run_id"])
    op.create_index("firing_noted_at", "firing", ["noted_at"])
    op.create_table(
        "beat_entry",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("total_run_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("beat_entry_pkey")),
    )


def _create_retention() -> None:
    op.create_table(
        "tombstone",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("plan_fingerprint", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("seal", sa.Text(), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("event_head", sa.LargeBinary(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd_nano", sa.BigInteger(), nullable=False),
        sa.Column("pruned_by", sa.Text(), nullable=False),
        sa.Column("pruned_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("checkpoint", sa.Integer(), nullable=True),
        sa.Column("has_content", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("content_tried_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name=op.f("tombstone_pkey")),
    )
    op.create_index(
        "tombstone_content",
        "tombstone",
        [sa.text("content_tried_at NULLS FIRST"), "pruned_at"],
        postgresql_where=sa.text("has_content"),
    )
    op.create_index("tombstone_pruned_at", "tombstone", ["pruned_at", "run_id"])
    op.create_index("tombstone_unsigned", "tombstone", ["pruned_at"], postgresql_where=sa.text("checkpoint IS NULL"))
    op.create_table(
        "folded_usage",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("directive", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "directive", "day", name=op.f("folded_usage_pkey")),
    )
    op.create_table(
        "checkpoint",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("leaves", sa.Integer(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("checkpoint_pkey")),
    )


# What the triggers of 0001 call: events of one run go, and only for the owner of the table, as whom prune_run acts.
# Every name is one of pg_catalog: whoever makes a temporary table could put it in the place of any other.
_REFUSE_CHANGE = """
    CREATE OR REPLACE FUNCTION audit_event_refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN{exception}
        RAISE EXCEPTION 'audit events are immutable: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
    END $$
"""
_BUT_PRUNING = """
        IF TG_OP = 'DELETE' AND pg_catalog.current_setting('agentflow.pruning', true) = OLD.run_id::text
           AND current_user = (SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class
                               WHERE oid = TG_RELID) THEN
            RETURN OLD;
        END IF;"""
# Takes an ended run out, whole, and leaves its tombstone and its usage: the only way in which audit events are deleted.
# Whoever calls it holds the run. Sums stop at what the ledger counts exactly (2^53 - 1). As above, nothing is looked up
# in a schema where others may make things: it acts as the owner.
_PRUNE_RUN = """
    CREATE FUNCTION {schema}.prune_run(pruned uuid, pruner text) RETURNS {schema}.tombstone
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        most CONSTANT numeric := 9007199254740991;
        standing record;
        buried {schema}.tombstone;
    BEGIN
        SELECT run.project, run.plan_fingerprint, plan.name AS plan_name, run.created_at, run_state.state,
               run_state.ended_at, run_state.round, run_state.event_head
        INTO standing
        FROM {schema}.run
        JOIN {schema}.run_state ON run_state.run_id = run.id
        JOIN {schema}.plan ON plan.fingerprint = run.plan_fingerprint
        WHERE run.id = pruned FOR UPDATE OF run, run_state;
        IF standing.ended_at IS NULL THEN
            RAISE EXCEPTION 'run % is not there or has not ended', pruned
            USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        INSERT INTO {schema}.folded_usage AS folded
        SELECT project, coalesce(directive, ''), CAST(started_at AT TIME ZONE 'UTC' AS date), count(*),
               least(sum(input_tokens), most), least(sum(output_tokens), most), least(sum(cached_tokens), most),
               least(sum(reasoning_tokens), most), least(coalesce(sum(usd_nano), 0), most)
        FROM {schema}.llm_call WHERE run_id = pruned
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (project, directive, day) DO UPDATE SET
            calls = folded.calls + excluded.calls,
            input_tokens = least(CAST(folded.input_tokens AS numeric) + excluded.input_tokens, most),
            output_tokens = least(CAST(folded.output_tokens AS numeric) + excluded.output_tokens, most),
            cached_tokens = least(CAST(folded.cached_tokens AS numeric) + excluded.cached_tokens, most),
            reasoning_tokens = least(CAST(folded.reasoning_tokens AS numeric) + excluded.reasoning_tokens, most),
            usd_nano = least(CAST(folded.usd_nano AS numeric) + excluded.usd_nano, most);
        INSERT INTO {schema}.tombstone
            (run_id, project, plan_name, plan_fingerprint, state, created_at, ended_at, round, seal, event_count,
             event_head, input_tokens, output_tokens, usd_nano, pruned_by)
        SELECT pruned, standing.project, standing.plan_name, standing.plan_fingerprint, standing.state,
               standing.created_at, standing.ended_at, standing.round,
               coalesce((SELECT facts ->> 'seal' FROM {schema}.audit_event
                         WHERE run_id = pruned AND step_id IS NULL AND action = 'finalize'
                         ORDER BY sequence DESC LIMIT 1), ''),
               (SELECT count(*) FROM {schema}.audit_event WHERE run_id = pruned), coalesce(standing.event_head, ''),
               least(coalesce(sum(input_tokens), 0), most), least(coalesce(sum(output_tokens), 0), most),
               least(coalesce(sum(usd_nano), 0), most), pruner
        FROM {schema}.llm_call WHERE run_id = pruned
        RETURNING * INTO buried;
        PERFORM set_config('agentflow.pruning', CAST(pruned AS text), true);
        DELETE FROM {schema}.audit_event WHERE run_id = pruned;
        PERFORM set_config('agentflow.pruning', '', true);
        DELETE FROM {schema}.run WHERE id = pruned;
        RETURN buried;
    END $$
"""


def _let_pruning_through() -> None:
    op.execute(_REFUSE_CHANGE.format(exception=_BUT_PRUNING))
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(_PRUNE_RUN.format(schema=schema))
    op.execute("REVOKE EXECUTE ON FUNCTION prune_run(uuid, text) FROM PUBLIC")
