"""Plausibility of the values in `instance`: missing, unparsable, and in the future.

| function | result |
|---|---|
| `compare_rates` | the columns that lack more values in the newest weeks than in the weeks before |
| `parse_newest` | how many values of the newest headers parse, and how many do not |
| `count_future_dates` | how many dates lie more than a day in the future |

`compare_rates` counts a series once, however many instances it has, and compares it with series of
its own modality: a week with more MR is no change. It counts unparsable values in a sample of
headers. The weeks end at the newest instance, so that tables at rest are compared too.

A value is unparsable when it is not of its VR, and then null in the table. These functions read
headers from `metadata_string` again and write nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import sqrt
from typing import Any, NamedTuple

from dicom_assets.header.extraction import extraction
from dicom_assets.header.values import TOO_EARLY
from dicom_assets.schema import DATE, INSTANCE, TIMESTAMP, Column
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.upkeep.kept_headers import newest_headers, newest_headers_of_series

# Below this number of series of a modality, a share is chance.
LEAST_SERIES = 50
# Headers that are parsed for each of the two periods.
HEADERS = 500
# A jump is at least this many standard errors high, because values are not independent: series
# come in studies, and devices are in use for weeks.
STANDARD_ERRORS = 4.0
# A clock may be wrong by hours, and the day begins earlier in other time zones.
GRACE = timedelta(days=1)
_COUNT = "_series"


class Share(NamedTuple):
    """The part of `of` series or values that lacks a value, from 0 to 1."""

    share: float
    of: int


class Jump(NamedTuple):
    """The parts that lack a value before and now, from 0 to 1."""

    before: float
    now: float


@dataclass(frozen=True)
class Rates:
    """Numbers of series compared, and by column the jumps of missing and of unparsable values.

    `series` is 0 where there are too few series to compare.
    """

    series: int = 0
    series_before: int = 0
    nulls: Mapping[str, Jump] = field(default_factory=dict)
    unparsable: Mapping[str, Jump] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True when no column lacks more values than before."""
        return not self.nulls and not self.unparsable


@dataclass(frozen=True)
class Parsing:
    """Numbers of values in so many `headers`, that parse and that do not.

    `parsed` counts by column, `unparsable` by `column: reason`.
    """

    headers: int
    parsed: Counter[str]
    unparsable: Counter[str]

    def shares(self) -> dict[str, Share]:
        """Return by column the share of its values that do not parse.

        A day or moment that is too early is a right value, often of an anonymizer, and left out.
        """
        wrong = Counter[str]()
        for counted, count in self.unparsable.items():
            name, _, reason = counted.partition(": ")
            if reason not in TOO_EARLY:
                wrong[name] += count
        values = {name: self.parsed[name] + wrong[name] for name in {**self.parsed, **wrong}}
        return {name: Share(wrong[name] / of, of) for name, of in values.items() if of}

    def rates(self) -> dict[str, float]:
        """Return the shares above 0 by column, the greatest first."""
        wrong = {name: share.share for name, share in self.shares().items() if share.share}
        return dict(sorted(wrong.items(), key=lambda pair: (-pair[1], pair[0])))


def parse_newest(store: Store, zone: str | None, size: int) -> Parsing:
    """Parse the headers of the rows with the `size` greatest sequences."""
    return _parse(store, zone, newest_headers(store, size))


def _parse(store: Store, zone: str | None, texts: Iterable[str]) -> Parsing:
    """Parse headers into the columns of `instance`. A text that is no header does not count."""
    extract = extraction(store.tables[INSTANCE.name], zone)
    decoded = (extract.decode(text.encode()) for text in texts)
    headers = [header for header in decoded if header is not None]
    columns, unparsable = extract.columns(headers)
    parsed = Counter({n: sum(v is not None for v in values) for n, values in columns.items()})
    return Parsing(len(headers), parsed, unparsable)


def count_future_dates(store: Store, now: datetime) -> Counter[str]:
    """Return by column of `instance` the number of rows with a date more than a day after `now`."""
    snapshot = store.open(INSTANCE)
    if snapshot.delta is None:
        return Counter()
    day, moment = f"DATE '{now + GRACE:%Y-%m-%d}'", f"TIMESTAMP '{(now + GRACE).isoformat()}'"
    bounds = {DATE: day, TIMESTAMP: moment}
    late = {c.name: f'"{c.name}" > {bounds[c.type]}' for c in _filled(snapshot) if c.type in bounds}
    counts = ", ".join(f'count(*) FILTER (WHERE {after}) AS "{n}"' for n, after in late.items())
    condition = " OR ".join(late.values())
    (row,) = snapshot.query(f"SELECT {counts} FROM t WHERE {condition}").to_pylist()  # noqa: S608 - names of columns and moments
    return Counter({name: count for name, count in row.items() if count})


def _filled(snapshot: Snapshot) -> list[Column]:
    """Return the columns of the table that a header fills."""
    return [c for c in snapshot.table.columns if c.paths and c.name in snapshot.column_names]


def compare_rates(
    store: Store, zone: str | None, *, weeks: float, weeks_before: float, points: float
) -> Rates:
    """Compare the newest weeks with the weeks before.

    A jump is a rise of a column's share by more than `points` (from 0 to 1) that chance does not
    explain. Columns of the key and `modality` are not compared.
    """
    snapshot = store.open(INSTANCE)
    if snapshot.delta is None:
        return Rates()
    newest = snapshot.query('SELECT max("received_timestamp") AS top FROM t')["top"][0].as_py()
    if not isinstance(newest, datetime):
        return Rates()
    turn = newest - timedelta(weeks=weeks)
    periods = (
        _condition(turn, newest + timedelta(microseconds=1)),
        _condition(turn - timedelta(weeks=weeks_before), turn),
    )
    names = [c.name for c in _filled(snapshot) if c.name not in {*INSTANCE.key, "modality"}]
    now, before = (_nulls(snapshot, names, period) for period in periods)
    known = {row["modality"]: row for row in before if row[_COUNT] >= LEAST_SERIES}
    pairs = [(row, known[row["modality"]]) for row in now if row["modality"] in known]
    series, series_before = (sum(pair[n][_COUNT] for pair in pairs) for n in (0, 1))
    if series < LEAST_SERIES:
        return Rates()
    parsed, parsed_before = (
        _parse(store, zone, newest_headers_of_series(store, HEADERS, period)) for period in periods
    )
    # The shares of before are weighted with the modalities of now.
    weights = [(row[_COUNT] / was[_COUNT], was) for row, was in pairs]
    new = {n: Share(sum(row[n] for row, _ in pairs) / series, series) for n in names}
    old = {n: Share(sum(w * was[n] for w, was in weights) / series, series_before) for n in names}
    return Rates(
        series,
        series_before,
        nulls=jumps(new, old, points),
        unparsable=jumps(parsed.shares(), parsed_before.shares(), points),
    )


def _condition(start: datetime, end: datetime) -> str:
    """Return the SQL condition of the rows received in a period."""
    first, last = (f"TIMESTAMP '{moment.isoformat()}'" for moment in (start, end))
    return f'"received_timestamp" >= {first} AND "received_timestamp" < {last}'


def _nulls(snapshot: Snapshot, names: Sequence[str], condition: str) -> list[dict[str, Any]]:
    """Return a row per modality: the number of series, and by column the sum of their null parts.

    The null part of a series is the part of its instances without a value, from 0 to 1.
    """
    values = ", ".join(f'count("{name}") AS "{name}"' for name in names)
    nulls = ", ".join(f'sum(1.0 - "{n}" / CAST({_COUNT} AS DOUBLE)) AS "{n}"' for n in names)
    return snapshot.query(
        f"""WITH one AS (
            SELECT max("modality") AS "modality", count(*) AS {_COUNT}, {values}
            FROM t WHERE {condition}
            GROUP BY "partitionName", "studyinstanceuid", "seriesinstanceuid")
        SELECT "modality", count(*) AS {_COUNT}, {nulls} FROM one GROUP BY "modality" """  # noqa: S608 - names of columns and moments
    ).to_pylist()


def jumps(now: Mapping[str, Share], before: Mapping[str, Share], points: float) -> dict[str, Jump]:
    """Return by column the rises above `points` and above chance, of columns with enough values."""
    found = dict[str, Jump]()
    for name, new in now.items():
        old = before.get(name, Share(0.0, 0))
        if min(old.of, new.of) >= LEAST_SERIES:
            both = (new.share * new.of + old.share * old.of) / (new.of + old.of)
            error = sqrt(max(0.0, both * (1 - both)) * (1 / new.of + 1 / old.of))
            if new.share - old.share > max(points, STANDARD_ERRORS * error):
                found[name] = Jump(old.share, new.share)
    return found
