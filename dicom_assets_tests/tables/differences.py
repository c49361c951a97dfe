"""Random rows and differences of a table, and what a commit of them makes of its files.

Every row that is written has a token of its own in a column that no patch sets, so that a row can
be followed from file to file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, SYNC, Table
from dicom_assets.tables.delta.arrow import texts
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.snapshot import Snapshot

Row = dict[str, Any]
Key = tuple[Any, ...]

_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SEQUENCES: Final = 40
STUDIES: Final = tuple(f"1.2.276.0.7230010.{n}" for n in range(8))


@dataclass(frozen=True)
class Kind:
    """A table, all keys that its rows may have, the columns of the token and of patches."""

    table: Table
    keys: tuple[Key, ...]
    token: str
    values: Callable[[Random], Row]
    patched: str = ""


def _moment(random: Random) -> datetime:
    return _EPOCH + timedelta(microseconds=random.randrange(10**12))


def _instance(random: Random) -> Row:
    header = [("00100010", {"vr": "PN", "Value": [f"PHI-{random.random()}", None]})]
    return {
        "studydate_formatted": random.choice((None, date(2020, 1, random.randint(1, 28)))),
        "lastModifiedTimestamp": random.choice((None, _moment(random))),
        "metadata": random.choice((None, [], header)),
        "metadata_string": random.choice((None, "", f'{{"a": {random.random()}}}')),
    }


def _change(random: Random) -> Row:
    of = random.choice(STUDIES)
    names = {"studyinstanceuid": of, "seriesinstanceuid": f"{of}.1", "sopinstanceuid": f"{of}.1.1"}
    moment = {"timestamp": _moment(random), "timestamp_ticks": random.randrange(10**17)}
    return {**names, **moment, "state": random.choice(("Current", "Replaced", None))}


def _series(random: Random) -> Row:
    day = random.choice((None, date(1969, 1, random.randint(1, 28))))
    return {"instanceCount": random.randrange(9), "studyDate": day, "sliceThickness": 0.5}


def _sync(random: Random) -> Row:
    return {"creates": random.choice((None, random.randrange(9))), "sealedAt": _moment(random)}


_SERIES_KEYS: Final = tuple(
    (partition, study, f"{study}.{series}")
    for partition, study, series in product(("Microsoft.Default", "b/c %20ü"), STUDIES, (1, 2))
)
KINDS: Final = {
    kind.table.name: kind
    for kind in (
        Kind(
            INSTANCE,
            tuple((*of, f"{of[-1]}.{sop}") for of in _SERIES_KEYS for sop in (1, 2)),
            "accessionnumber",
            _instance,
            "received_timestamp",
        ),
        Kind(SERIES, _SERIES_KEYS, "seriesDescription", _series),
        Kind(CHANGE, tuple((n,) for n in range(-3, 60)), "filepath", _change, "state"),
        Kind(
            SYNC,
            tuple((_EPOCH + timedelta(hours=n),) for n in range(40)),
            "digest",
            _sync,
            "sealedAt",
        ),
    )
}


@dataclass
class Differences:
    """A source of random differences of one kind of table, each row with a new token."""

    kind: Kind
    random: Random
    tokens: int = field(default=0)

    def rows(self, keys: Iterable[Key], *, nulls: bool = False) -> pa.Table:
        """Whole rows; with `nulls`, some without a sequence, as in a table that was taken over."""
        table = self.kind.table
        made = [self._row(key, nulls and self.random.random() < 0.4) for key in keys]
        return pa.Table.from_pylist(made, schema=table.arrow())

    def _row(self, key: Key, is_null: bool) -> Row:
        self.tokens += 1
        row = self.kind.values(self.random) | {self.kind.token: f"token {self.tokens}"}
        if "sequence" in self.kind.table.names:
            row["sequence"] = None if is_null else self.random.randrange(_SEQUENCES)
        return row | dict(zip(self.kind.table.key, key, strict=True))

    def next(self, stored: Mapping[Key, int | None], most: int = 6) -> Difference:
        """A difference: inserts of new keys; the rest of some that exist and some that do not.

        `stored` has the sequence of each row. Some sequences are older, some equal, some newer.
        """
        keys = self.random.sample(self.kind.keys, min(len(self.kind.keys), 4 * most))
        counts = [self.random.randrange(most) for _ in range(3)]
        parts: list[list[Key]] = []
        for count in counts:
            parts.append(keys[:count])
            keys = keys[count:]
        new = [key for key in keys if key not in stored][: self.random.randrange(most)]
        updates, deletes, patches = map(self.rows, parts)
        table = self.kind.table
        guard = ["sequence"] if table.is_guarded else []
        named = [*dict.fromkeys([*table.key, *guard])]
        if table.is_guarded:  # half of them name the row as it is
            same = [
                stored.get(key) if self.random.random() < 0.7 else self.random.randrange(_SEQUENCES)
                for key in parts[2]
            ]
            at = patches.schema.get_field_index("sequence")
            patches = patches.set_column(
                at, patches.schema.field(at), pa.array(same, patches.schema.field(at).type)
            )
        has_patches = bool(self.kind.patched and parts[2])
        return Difference(
            table,
            inserts=self.rows(new, nulls=table.is_guarded) if new else None,
            updates=updates if parts[0] else None,
            deletes=deletes.select(named) if parts[1] else None,
            patches=patches.select([*named, self.kind.patched]) if has_patches else None,
        )


def key_of(table: Table, row: Row) -> Key:
    """The key of a row."""
    return tuple(row[name] for name in table.key)


def rows(snapshot: Snapshot) -> dict[Key, Row]:
    """The rows of a version, all columns, by key; no key has two."""
    found = snapshot.rows().to_pylist()
    keyed = {key_of(snapshot.table, row): row for row in found}
    assert len(keyed) == len(found)
    return keyed


def tokens(snapshot: Snapshot, kind: Kind) -> dict[str, list[str]]:
    """The tokens of each data file, in the order of its rows."""
    root = Path(snapshot.url)
    held = {file.path: pq.ParquetFile(root / file.path) for file in data_files(snapshot)}
    return {path: texts(file.read([kind.token])[kind.token]) for path, file in held.items()}
