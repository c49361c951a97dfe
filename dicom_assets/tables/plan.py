"""The rule: the state of an instance in the log, against its row in the table.

Pure functions over Arrow tables. Nothing here opens a table or sends a request. For each key that
the window touched, by the newest entry of the key in the whole log:

| newest entry | the table holds | then |
|---|---|---|
| a Delete, or served as Deleted | a sequence not greater | delete the row |
| the same | no row, or a greater sequence | nothing |
| any other | that sequence, or a greater one | nothing |
| any other | less, null, or no row | read the header: Current upserts, Deleted deletes |
"""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.arrow import (
    Values,
    filter_in,
    ints,
    is_in,
    joined_key,
    looked_up,
    numbers,
    pc,
    position,
)

# The columns that a plan needs of the log and of the instance table.
LOG_COLUMNS = ["sequence", *INSTANCE.key, "action", "timestamp", "timestamp_ticks", "state"]
STORED_COLUMNS = [*INSTANCE.key, "sequence", "received_timestamp"]


@dataclass(frozen=True)
class Plan:
    """The changes that the touched keys need; each table has one row per key.

    `read`: sequence, timestamp_ticks, received_timestamp, stored (the sequence in the table, may be
    null) and exists (the table has a row), of the entries whose headers are to be read.
    `deletes`: key columns and sequence.
    `patches`: key columns, sequence and received_timestamp.
    `newest`: the newest sequence of every touched key.
    `paused`: those of them that wait for their next attempt.
    """

    read: pa.Table
    deletes: pa.Table
    patches: pa.Table
    newest: pa.Table
    paused: tuple[int, ...]


def key_of(table: pa.Table) -> Values:
    """Return one text per row: the key of its instance."""
    return joined_key(table, INSTANCE.key)


def is_gone(table: pa.Table) -> Values:
    """Return a mask of the log rows whose instance is gone."""
    gone: Values = pc.or_(pc.equal(table["action"], "Delete"), pc.equal(table["state"], "Deleted"))
    return gone


def newest_of(log: pa.Table) -> pa.Table:
    """Return the row with the greatest sequence of each key."""
    keyed = log.select(["sequence"]).append_column("key", key_of(log))
    greatest = keyed.group_by("key").aggregate([("sequence", "max")])
    return filter_in(log, "sequence", greatest["sequence_max"])


def make_plan(
    log: pa.Table, stored: pa.Table, touched: Values, paused: Collection[int] = ()
) -> Plan:
    """Return the changes that the rule demands.

    `log` (LOG_COLUMNS) has every log row of the touched keys, of any hour. `stored`
    (STORED_COLUMNS) has every row of `instance` with these keys. Both may have other keys too.
    `touched` are the keys, as `key_of` returns them. `paused` are sequences that wait for their
    next attempt.
    """
    log = log.filter(is_in(key_of(log), touched))
    newest = _with_stored(newest_of(log), stored)
    gone, exists = is_gone(newest), newest["exists"]
    applied = pc.fill_null(newest["stored"], -1)
    waiting = is_in(newest["sequence"], numbers(paused))
    unread = pc.and_(pc.invert(gone), pc.less(applied, newest["sequence"]))
    deletes = pc.and_(gone, pc.and_(exists, pc.less_equal(applied, newest["sequence"])))
    kept = pc.and_(exists, pc.invert(pc.or_(deletes, unread)))
    return Plan(
        read=_with_received(newest.filter(pc.and_(unread, pc.invert(waiting))), log, "sequence"),
        deletes=newest.filter(deletes).select([*INSTANCE.key, "sequence"]),
        patches=_patches(newest.filter(kept), log),
        newest=newest,
        paused=tuple(ints(newest.filter(pc.and_(unread, waiting))["sequence"])),
    )


def _with_stored(newest: pa.Table, stored: pa.Table) -> pa.Table:
    """Add the table's row of each key: `stored` and `received`, and `exists` if there is one."""
    row = position(key_of(newest), key_of(stored))
    newest = newest.append_column("stored", stored["sequence"].take(row))
    newest = newest.append_column("received", stored["received_timestamp"].take(row))
    return newest.append_column("exists", pc.is_valid(row))


def _with_received(rows: pa.Table, log: pa.Table, upto: str) -> pa.Table:
    """Add the time of the greatest Create of each key that is not above the column `upto`.

    Where the log has none, it is the time that the table has.
    """
    creates = log.filter(pc.equal(log["action"], "Create"))
    creates = creates.select(["sequence", "timestamp"]).append_column("key", key_of(creates))
    number = numbers(range(len(rows)))
    pairs = pa.table({"key": key_of(rows), "upto": rows[upto], "row": number})
    pairs = pairs.join(creates, "key", join_type="inner")
    pairs = pairs.filter(pc.less_equal(pairs["sequence"], pairs["upto"]))
    greatest = pairs.group_by("row").aggregate([("sequence", "max")])
    sequence = looked_up(number, greatest["row"], greatest["sequence_max"])
    received = looked_up(sequence, creates["sequence"], creates["timestamp"])
    return rows.append_column("received_timestamp", pc.coalesce(received, rows["received"]))


def _patches(kept: pa.Table, log: pa.Table) -> pa.Table:
    rows = _with_received(kept.filter(pc.is_valid(kept["stored"])), log, "stored")
    new, old = rows["received_timestamp"], rows["received"]
    moved = pc.and_(pc.is_valid(new), pc.fill_null(pc.not_equal(new, old), True))  # noqa: FBT003 - Arrow's own signature
    patches = rows.filter(moved).select([*INSTANCE.key, "stored", "received_timestamp"])
    return patches.rename_columns([*INSTANCE.key, "sequence", "received_timestamp"])
