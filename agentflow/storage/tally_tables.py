"""The table of tallies: what has ever ended, counted, whatever becomes of the rows that it was counted from.

Owns the shape of the rows. Triggers (migration 0005) add one or two with the change that they count, in its
transaction; now and then the rows of one count are folded into one. So the sum over a count's rows is exact at every
moment, is the same for every reader and never falls: pruning runs deletes none. Nobody waits for another, since rows
are added and never updated.
"""

from sqlalchemy import BigInteger, Column, Index, Numeric, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import SQLModel

# No class: the rows have no key, and nobody looks for a single one.
TALLY = Table(
    "tally",
    SQLModel.metadata,
    Column("metric", Text, nullable=False),
    Column("labels", ARRAY(Text), nullable=False),
    Column("upto", Numeric, nullable=True),
    Column("count", BigInteger, nullable=False),
    Column("total", Numeric, nullable=True),
    # By it a trigger knows in an instant whether a model has its own counts already.
    Index("tally_model", "labels", postgresql_where=text("metric = 'model_call'")),
)
"""``upto`` is the upper bound of the bucket that an observation fell into; ``total`` the sum of what was observed."""
