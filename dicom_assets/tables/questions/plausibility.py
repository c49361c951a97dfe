"""Which columns lack more values in the newest weeks than in the weeks before.

A series counts once, however many instances it has, and is compared with series of its own
modality: so a week with more MR is no change. Values that do not parse are counted in a sample of
headers. Weeks are counted back from the newest instance, so that tables at rest are compared too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import sqrt
from typing import Any, NamedTuple, TypeAlias

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.questions.parsing import Parsing, parse
from dicom_assets.tables.upkeep.kept_headers import newest_of_series

# Fewer series of a modality say nothing.
LEAST_SERIES = 50
# Of each period so many headers are parsed.
HEADERS = 500
# Series come in studies, and devices in weeks: a jump has to be this many standard errors high.
STANDARD_ERRORS = 4.0
_COUNT = "_series"
_Rows: TypeAlias = list[dict[str, Any]]
_Pairs: TypeAlias = list[tuple[dict[str, Any], dict[str, Any]]]


class Share(NamedTuple):
    """Which part of so many lacks a value, from 0 to 1."""

    share: float
    of: int


class Jump(NamedTuple):
    """Which part lacks a value now, and which did before."""

    before: float
    now: float


@dataclass(frozen=True)
class Rates:
    """How many series of each period were compared, and the columns in which the rate jumped.

    No series where there are too few of them to say anything.
    """

    series: int = 0
    series_before: int = 0
    nulls: Mapping[str, Jump] = field(default_factory=dict)
    unparsable: Mapping[str, Jump] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no column lacks more values than before."""
        return not self.nulls and not self.unparsable


def look(
    store: Store, zone: str | None, weeks: float = 1, weeks_before: float = 4, points: float = 0.1
) -> Rates:
    """Compare the newest weeks with the weeks before; a jump is one by more than `points`."""
    snapshot = store.open(INSTANCE)
    newest = _newest(snapshot)
    if newest is None:
        return Rates()
    turn = newest - timedelta(weeks=weeks)
    now = _where(turn, newest + timedelta(microseconds=1))
    before = _where(turn - timedelta(weeks=weeks_before), turn)
    names = [c.name for c in snapshot.table.columns if c.paths and c.name in snapshot.held]
    names = [name for name in names if name not in {*INSTANCE.key, "modality"}]
    counted, counted_before = (_nulls(snapshot, names, where) for where in (now, before))
    parsed, parsed_before = (
        parse(store, zone, newest_of_series(store, HEADERS, where)) for where in (now, before)
    )
    pairs = _comparable(counted, counted_before)
    series, series_before = (sum(pair[n][_COUNT] for pair in pairs) for n in (0, 1))
    if series < LEAST_SERIES:
        return Rates()
    return Rates(
        series,
        series_before,
        nulls=_jumped(_found(names, pairs), _expected(names, pairs), points),
        unparsable=_jumped(_unparsable(parsed), _unparsable(parsed_before), points),
    )


def _newest(snapshot: Snapshot) -> datetime | None:
    if snapshot.delta is None:
        return None
    found = snapshot.query('SELECT max("received_timestamp") AS top FROM t')["top"][0].as_py()
    return found if isinstance(found, datetime) else None


def _where(start: datetime, end: datetime) -> str:
    column = '"received_timestamp"'
    first, last = (f"TIMESTAMP '{moment.isoformat()}'" for moment in (start, end))
    return f"{column} >= {first} AND {column} < {last}"


def _nulls(snapshot: Snapshot, names: Sequence[str], where: str) -> _Rows:
    """Return for each modality its series, and the sum of what part of each lacks a value."""
    held = ", ".join(f'count("{name}") AS "{name}"' for name in names)
    lacking = ", ".join(
        f'sum(1.0 - "{name}" / CAST({_COUNT} AS DOUBLE)) AS "{name}"' for name in names
    )
    rows: _Rows = snapshot.query(
        f"""WITH one AS (
            SELECT max("modality") AS "modality", count(*) AS {_COUNT}, {held} FROM t WHERE {where}
            GROUP BY "partitionName", "studyinstanceuid", "seriesinstanceuid")
        SELECT "modality", count(*) AS {_COUNT}, {lacking} FROM one GROUP BY "modality" """  # noqa: S608 - names of columns and moments
    ).to_pylist()
    return rows


def _comparable(now: _Rows, before: _Rows) -> _Pairs:
    """Return the numbers of each modality of which enough is known from before, and those."""
    known = {row["modality"]: row for row in before if row[_COUNT] >= LEAST_SERIES}
    return [(row, known[row["modality"]]) for row in now if row["modality"] in known]


def _found(names: Sequence[str], pairs: _Pairs) -> dict[str, Share]:
    count = sum(row[_COUNT] for row, _ in pairs)
    return {name: Share(sum(row[name] for row, _ in pairs) / count, count) for name in names}


def _expected(names: Sequence[str], pairs: _Pairs) -> dict[str, Share]:
    """Return what was before, as it would have been with the modalities of now."""
    now, before = (sum(pair[n][_COUNT] for pair in pairs) for n in (0, 1))
    return {
        name: Share(sum(row[_COUNT] * was[name] / was[_COUNT] for row, was in pairs) / now, before)
        for name in names
    }


def _unparsable(found: Parsing) -> dict[str, Share]:
    wrong = Counter[str]()
    for told, count in found.unparsable.items():
        wrong[told.partition(":")[0]] += count
    values = {name: count + wrong[name] for name, count in found.parsed.items()}
    return {name: Share(wrong[name] / of, of) for name, of in values.items() if of >= LEAST_SERIES}


def _jumped(
    now: Mapping[str, Share], before: Mapping[str, Share], points: float
) -> dict[str, Jump]:
    return {
        name: Jump(before[name].share, share.share)
        for name, share in now.items()
        if name in before and share.share - before[name].share > _noise(share, before[name], points)
    }


def _noise(now: Share, before: Share, points: float) -> float:
    """Return how far two shares may lie apart without meaning: some points, or chance."""
    both = (now.share * now.of + before.share * before.of) / (now.of + before.of)
    error = sqrt(max(0.0, both * (1 - both)) * (1 / now.of + 1 / before.of))
    return max(points, STANDARD_ERRORS * error)
