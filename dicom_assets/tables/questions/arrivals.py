"""Arrivals: the series of nine weeks by device, day and patient, read from `series`.

A device is a name (StationName, for want of one the model) at an institution. An arrival is a
series, at the moment its first instance was received. Days are those of the site's time zone.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa

from dicom_assets.schema import SERIES, TIMESTAMP
from dicom_assets.tables.delta.arrow import Values, looked_up, pc
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.plausibility import Jump, Share, jumps
from dicom_assets.tables.sync import followed
from dicom_assets.window import HOUR, Bounds, floor_hour

DAY: Final = timedelta(days=1)
# A device is expected on a weekday on which it has sent so often in so many weeks.
WEEKS, LEAST_WEEKS = 8, 6
# A missed day is remembered for a week: a device of weekdays stays silent at the weekend.
REMEMBERED_DAYS: Final = 7
RECENT: Final = (7 * WEEKS + REMEMBERED_DAYS + 1) * DAY
# The offsets of all time zones are multiples of it.
QUARTER: Final = timedelta(minutes=15)
_NAMELESS: Final = "no name"
_RISE: Final = 0.1
# Without these a series belongs to another device.
_IDENTITY: Final = ("stationName", "institutionName", "manufacturerModelName", "modality")


class Device(NamedTuple):
    """A device as people know it; `institution` is empty when the headers do not name it."""

    name: str
    institution: str

    def __str__(self) -> str:
        """Return both names."""
        return f"{self.name} ({self.institution})" if self.institution else self.name


class Silence(NamedTuple):
    """A day on which a device was expected by an hour, and since which it has sent nothing."""

    device: Device
    day: date
    by: int


class Worse(NamedTuple):
    """A column of `series` that lacks more values of a device than before, from 0 to 1.

    `patients` are those of the smaller of the two periods.
    """

    device: Device
    column: str
    jump: Jump
    patients: int


@dataclass(frozen=True)
class Arrivals:
    """The series that were received in the days before `until`, one row each.

    Columns: device, institution, modality, patient, quarter (start of the quarter of an hour, UTC),
    day, images, and for each column of `series` in `compared` whether it has a value.
    """

    rows: pa.Table
    until: datetime
    zone: ZoneInfo
    compared: tuple[str, ...] = ()

    @property
    def today(self) -> date:
        """The day that `until` ends, or in which it lies."""
        return (self.until - timedelta(microseconds=1)).astimezone(self.zone).date()

    def since(self, span: timedelta) -> pa.Table:
        """Return the rows of the last span of time."""
        first = pa.scalar(self.until - span, TIMESTAMP)
        return self.rows.filter(pc.greater_equal(self.rows["quarter"], first))


def arrivals(
    store: Store, until: datetime, zone: str | None, *, compares: bool = False
) -> Arrivals:
    """Return the series received in the time RECENT before a moment, with UTC days without a zone.

    `compares` reads for each attribute whether it has a value. Files of other times are not opened.
    """
    snapshot, place = store.open(SERIES), ZoneInfo(zone or "UTC")
    columns = tuple(
        c.name
        for c in snapshot.table.columns
        if compares and c.attribute and c.name not in {*SERIES.key, *_IDENTITY}
        if c.name in snapshot.column_names
    )
    read = [*_IDENTITY, "patientId", "instanceCount", "firstReceivedTimestamp", *columns]
    pieces = snapshot.pieces_between("firstReceivedTimestamp", until - RECENT, until, read)
    none = snapshot.table.arrow(read).empty_table()
    rows = pa.concat_tables([_narrow(piece, columns) for piece in (none, *pieces)])
    quarters = pc.unique(rows["quarter"])
    days = [moment.astimezone(place).date() for moment in quarters.to_pylist()]
    rows = rows.append_column(
        "day", looked_up(rows["quarter"], quarters, pa.array(days, pa.date32()))
    )
    return Arrivals(rows, until, place, columns)


def _narrow(piece: pa.Table, columns: Iterable[str]) -> pa.Table:
    station, model = _text(piece["stationName"]), _text(piece["manufacturerModelName"])
    ticks = piece["firstReceivedTimestamp"].cast(pa.int64())
    quarter = QUARTER // timedelta(microseconds=1)
    values: dict[str, Values] = {
        "device": pc.coalesce(station, model, _NAMELESS),
        "institution": pc.coalesce(_text(piece["institutionName"]), ""),
        "modality": pc.coalesce(_text(piece["modality"]), "?"),
        "patient": pc.utf8_upper(_text(piece["patientId"])),
        "quarter": pc.multiply(pc.divide(ticks, quarter), quarter).cast(TIMESTAMP),
        "images": piece["instanceCount"],
        **{name: pc.is_valid(piece[name]) for name in columns},
    }
    return pa.table(values)


def _text(column: Values) -> Values:
    trimmed = pc.utf8_trim_whitespace(column)
    values: Values = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    return values


def worse_columns(found: Arrivals) -> list[Worse]:
    """Return the columns that got worse in the newest week, by device, the greatest rises first.

    The week is compared with the four weeks before, on the same device. A rise counts as in the
    check `rates`: ten points, and more than chance explains.
    """
    turn = found.today - 7 * DAY
    day, worse = found.rows["day"], []
    periods = [
        found.rows.filter(pc.greater(day, turn)),
        found.rows.filter(
            pc.and_(pc.greater(day, turn - 28 * DAY), pc.less_equal(day, turn)),
        ),
    ]
    new, old = (_filled(rows, found.compared) for rows in periods)
    for device in new.keys() & old.keys():
        now, before = (
            {name: Share(1 - of[name] / of[""], of[""]) for name in found.compared}
            for of in (new[device], old[device])
        )
        patients = min(new[device]["patient"], old[device]["patient"])
        risen = jumps(now, before, _RISE).items()
        worse += [Worse(device, name, jump, patients) for name, jump in risen]
    return sorted(worse, key=lambda w: (w.jump.before - w.jump.now, w.device, w.column))


def _filled(rows: pa.Table, columns: Iterable[str]) -> dict[Device, Counter[str]]:
    """Return by device the series ("") and patients, and by column the series that have a value."""
    sums: list[Any] = [(name, "sum") for name in columns]
    sums += [("patient", "count_distinct"), ([], "count_all")]
    grouped = rows.group_by(["device", "institution"]).aggregate(sums)
    return {
        Device(row["device"], row["institution"]): Counter(
            {"": row["count_all"], "patient": row["patient_count_distinct"]}
            | {name: row[f"{name}_sum"] or 0 for name in columns}
        )
        for row in grouped.to_pylist()
    }


def silent_devices(found: Arrivals, seen: Collection[datetime]) -> list[Silence]:
    """Return the devices that are silent, those that were expected first before the others.

    A device is expected on a day when it has sent on at least LEAST_WEEKS of the same weekday in
    the WEEKS weeks before, by the hour in which three of four of these days had their first series.
    `seen` are the hours that the tables show: a day with another hour is not judged.
    """
    first = defaultdict[Device, dict[date, datetime]](dict)
    columns = ["device", "institution", "day"]
    grouped = found.rows.group_by(columns).aggregate([("quarter", "min")])
    for row in grouped.to_pylist():
        device = Device(row["device"], row["institution"])
        first[device][row["day"]] = row["quarter_min"].astimezone(found.zone)
    silent = []
    for device, days in first.items():
        last = max(days)
        for back in range(min(REMEMBERED_DAYS, (found.today - last).days - 1), -1, -1):
            day = found.today - back * DAY
            before = (days.get(day - 7 * week * DAY) for week in range(1, WEEKS + 1))
            hours = sorted(moment.hour for moment in before if moment is not None)
            if len(hours) < LEAST_WEEKS:
                continue
            by = hours[-(-3 * len(hours) // 4) - 1] + 1
            midnight = datetime(day.year, day.month, day.day, tzinfo=found.zone)
            start, end = (at.astimezone(UTC) for at in (midnight, midnight + by * HOUR))
            judged = {floor_hour(start + n * HOUR) for n in range(-((start - end) // HOUR))}
            if end <= found.until and judged <= set(seen):
                silent.append(Silence(device, day, by))
                break
    return sorted(silent, key=lambda one: (one.day, one.by, one.device))


def silent_now(store: Store, bounds: Bounds, zone: str | None, now: datetime) -> list[Silence]:
    """Return the devices that are silent by the hours within bounds, which are all due.

    It is judged at the end of the newest hour that all tables show.
    """
    seen = seen_hours(store, bounds, now)
    return silent_devices(arrivals(store, max(seen) + HOUR, zone), seen) if seen else []


def seen_hours(store: Store, bounds: Bounds, until: datetime) -> set[datetime]:
    """Return those of the hours of arrivals, before a moment, that all tables show."""
    window = bounds.window.clip(until - RECENT, until)
    return followed(store, Bounds(window, bounds.partitions))
