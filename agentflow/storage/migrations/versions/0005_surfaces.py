"""What the surfaces keep: keys, replies, tallies of what ended, and webhooks with their deliveries.

Revision 0005.
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("public_id", sa.Text, primary_key=True),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("project", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_by", sa.Text),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("role IN ('admin', 'operator', 'viewer')", name="role_known"),
        sa.CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_by_somebody"),
    )
    not_done = sa.text("state IN ('cancelled', 'failed', 'partial')")
    op.create_index("plan_name", "plan", ["name"])
    op.create_index("audit_event_run", "audit_event", ["run_id", "id"])
    op.create_index("run_state_not_done", "run_state", ["state"], postgresql_where=not_done)
    op.create_index("api_key_name", "api_key", ["name"], unique=True, postgresql_where=sa.text("revoked_at IS NULL"))
    _create_replies()
    _create_webhooks()
    _create_deliveries()
    _create_tally()
    op.add_column("attempt", sa.Column("due_at", sa.DateTime(timezone=True)))
    op.add_column("worker", sa.Column("cpu_seconds", sa.Double))
    op.add_column("worker", sa.Column("resident_bytes", sa.BigInteger))


def downgrade() -> None:
    for table, trigger in _TALLIED:
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
        op.execute(f"DROP FUNCTION {trigger}()")
    for table in ("webhook_delivery", "webhook_cursor", "webhook"):
        op.drop_table(table)
    op.drop_column("worker", "resident_bytes")
    op.drop_column("worker", "cpu_seconds")
    op.drop_column("attempt", "due_at")
    op.execute("DROP FUNCTION tally_bucket(numeric)")
    op.drop_table("tally")
    op.drop_table("api_reply")
    op.drop_table("api_key")
    op.drop_index("run_state_not_done", "run_state")
    op.drop_index("audit_event_run", "audit_event")
    op.drop_index("plan_name", "plan")


# The bounds are those of domain/tally.py, as negatives and so from the last on: width_bucket counts the bounds up to a
# value, that itself included, and here a bucket takes in its upper bound. Each row names the bound it is counted under.
_TALLY_BUCKET = """
    CREATE FUNCTION tally_bucket(observed numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT -(CAST('{negatives}' AS numeric[]))[width_bucket(-observed, CAST('{negatives}' AS numeric[]))]
    $$
"""
_NEGATIVES = (
    "{-Infinity, -28800, -7200, -1800, -300, -60, -30, -10, -5, -2.5, -1, "
    "-0.5, -0.25, -0.1, -0.05, -0.025, -0.01, -0.005}"
)
# What is counted: (the table, the name of the trigger and of its function) -> when, and what it adds.
_TALLIED = {
    ("run", "tally_run"): (
        "AFTER INSERT ON run FOR EACH ROW",
        "INSERT INTO tally (metric, labels, count) VALUES ('run_submitted', '{}', 1);",
    ),
    ("run_state", "tally_run_end"): (
        "AFTER UPDATE OF state ON run_state FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL)",
        "INSERT INTO tally (metric, labels, count) VALUES ('run_ended', ARRAY[NEW.state], 1);",
    ),
    ("step", "tally_step_end"): (
        "AFTER UPDATE OF state ON step FOR EACH ROW WHEN (NEW.state IN ('cancelled', 'failed', 'skipped', 'succeeded') "
        "AND OLD.state <> NEW.state)",
        "INSERT INTO tally (metric, labels, count) VALUES ('step_ended', ARRAY[NEW.action, NEW.state], 1);",
    ),
    ("attempt", "tally_attempt_end"): (
        "AFTER UPDATE OF state ON attempt FOR EACH ROW WHEN (OLD.state = 'running' AND NEW.state <> 'running')",
        """
        SELECT action INTO performed FROM step WHERE id = NEW.step_id;
        seconds := extract(epoch FROM NEW.ended_at - NEW.started_at);
        INSERT INTO tally (metric, labels, upto, count, total)
        VALUES ('attempt', ARRAY[performed, NEW.state], tally_bucket(seconds), 1, seconds);
        IF NEW.due_at IS NOT NULL THEN
            seconds := greatest(extract(epoch FROM NEW.started_at - NEW.due_at), 0);
            INSERT INTO tally (metric, labels, upto, count, total)
            VALUES ('hand_over', ARRAY[performed], tally_bucket(seconds), 1, seconds);
        END IF;""",
    ),
    ("gate", "tally_gate_end"): (
        "AFTER UPDATE OF state ON gate FOR EACH ROW WHEN (OLD.state = 'open' AND NEW.state <> 'open')",
        "INSERT INTO tally (metric, labels, count) VALUES ('gate_ended', ARRAY[NEW.kind, NEW.state], 1);",
    ),
    ("webhook_delivery", "tally_delivery_end"): (
        "AFTER UPDATE OF state ON webhook_delivery FOR EACH ROW "
        "WHEN (OLD.state = 'pending' AND NEW.state <> 'pending')",
        "INSERT INTO tally (metric, labels, count) VALUES ('delivery_ended', ARRAY[NEW.state], 1);",
    ),
    # Which models there are, plans say: beyond a hundred, the rest are counted as one.
    ("llm_call", "tally_call"): (
        "AFTER INSERT ON llm_call FOR EACH ROW",
        """
        named := ARRAY[NEW.provider, NEW.model];
        IF NOT EXISTS (SELECT FROM tally WHERE metric = 'model_call' AND labels = named)
           AND (SELECT count(DISTINCT labels) FROM tally WHERE metric = 'model_call') >= 100 THEN
            named := ARRAY['other', 'other'];
        END IF;
        seconds := CAST(NEW.duration_seconds AS numeric);
        INSERT INTO tally (metric, labels, upto, count, total) VALUES
            ('model_call', named, tally_bucket(seconds), 1, seconds),
            ('token', named || CAST('input' AS text), NULL, NEW.input_tokens, NULL),
            ('token', named || CAST('output' AS text), NULL, NEW.output_tokens, NULL),
            ('cost', named, NULL, CAST(NEW.usd_nano IS NULL AS integer), coalesce(NEW.usd_nano, 0));""",
    ),
}


def _create_tally() -> None:
    op.create_table(
        "tally",
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("labels", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("upto", sa.Numeric),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Numeric),
    )
    op.create_index("tally_model", "tally", ["labels"], postgresql_where=sa.text("metric = 'model_call'"))
    op.execute(_TALLY_BUCKET.format(negatives=_NEGATIVES))
    for (_, trigger), (when, body) in _TALLIED.items():
        op.execute(f"""
            CREATE FUNCTION {trigger}() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE performed text; seconds numeric; named text[];
            BEGIN {body} RETURN NULL; END $$
        """)
        op.execute(f"CREATE TRIGGER {trigger} {when} EXECUTE FUNCTION {trigger}()")


def _create_replies() -> None:
    op.create_table(
        "api_reply",
        sa.Column("public_id", sa.Text, sa.ForeignKey("api_key.public_id"), primary_key=True),
        sa.Column("idempotency_key", sa.Text, primary_key=True),
        sa.Column("request_sha256", sa.LargeBinary, nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("status", sa.Integer),
        sa.Column("location", sa.Text),
        sa.Column("body", sa.Text),
        sa.CheckConstraint("status IS NOT NULL OR (location IS NULL AND body IS NULL)", name="said_with_status"),
    )
    op.create_index("api_reply_begun_at", "api_reply", ["begun_at"])


def _moment(name: str, *, nullable: bool = True, now: bool = False) -> sa.Column[datetime]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _create_webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("project", sa.Text),
        sa.Column("plan", sa.Text),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("types", JSONB, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("previous_salt", sa.LargeBinary),
        _moment("previous_until"),
        sa.Column("from_event", sa.BigInteger, nullable=False),
        _moment("created_at", nullable=False, now=True),
        sa.Column("created_by", sa.Text, nullable=False),
        _moment("disabled_at"),
        sa.Column("disabled_by", sa.Text),
        sa.Column("disabled_code", sa.Text),
        _moment("failing_since"),
        _moment("delivered_at"),
        sa.CheckConstraint("disabled_code IN ('asked', 'failing', 'gone')", name="disabled_code_known"),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_by IS NULL) AND (disabled_at IS NULL) = (disabled_code IS NULL)",
            name="disabled_by_somebody",
        ),
        sa.CheckConstraint("(previous_salt IS NULL) = (previous_until IS NULL)", name="previous_ends"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("webhook_name", "webhook", ["project", "name"], unique=True, postgresql_nulls_not_distinct=True)
    op.create_table(
        "webhook_cursor",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("event_id", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="only_one"),
    )
    op.execute("INSERT INTO webhook_cursor (id, event_id) VALUES (1, 0)")


def _create_deliveries() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("webhook_id", sa.Text, sa.ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("run_id", sa.Uuid),
        sa.Column("event_id", sa.BigInteger),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
        _moment("created_at", nullable=False, now=True),
        _moment("next_at"),
        _moment("last_at"),
        sa.Column("last_status", sa.Integer),
        sa.Column("duration_seconds", sa.Double),
        sa.Column("problem", sa.Text),
        sa.CheckConstraint("state IN ('delivered', 'failed', 'pending')", name="state_known"),
        sa.CheckConstraint("(next_at IS NOT NULL) = (state = 'pending')", name="pending_has_a_time"),
        postgresql_with={"fillfactor": 70},
    )
    is_pending = sa.text("state = 'pending'")
    op.create_index("webhook_delivery_due", "webhook_delivery", ["webhook_id", "next_at"], postgresql_where=is_pending)
    op.create_index("webhook_delivery_history", "webhook_delivery", ["webhook_id", "created_at", "id"])
