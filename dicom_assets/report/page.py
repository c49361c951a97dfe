"""The facts as one file of HTML: no script, no address, light and dark, for a desk and a phone.

Bars and lines are SVG that stretches, their texts are HTML, so that they can be read at any width.
Colours are those of the reader's choice, in `page.css`. Every text from a header is escaped.

| section | content |
|---|---|
| head | one sentence: complete up to when. Then what needs a person |
| arrivals | images of 48 hours by modality, before the band of the four weeks before |
| devices | series by day, the device that has been silent for the longest time on top |
| columns | columns that got worse, with the device |
| rejected | entries of the feed that wait, by reason |
| growth | images by month, and in a year at the pace of the last weeks |
| foot | versions, rows and sizes of the tables, and the time |
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from html import escape
from itertools import accumulate
from math import log, log10
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from dicom_assets.report.facts import DAYS, ReportFacts
from dicom_assets.report.small_cells import LEAST, Cell, withheld, withheld_of_grid
from dicom_assets.schema import INSTANCE, SERIES, SYNC
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.questions.arrivals import DAY, Arrivals, Device
from dicom_assets.window import HOUR, floor_hour

# Below the root of the tables.
PATH, INTERNAL_PATH = "_report/report.html", "_report/internal.html"
HOURS: Final = 48
MOST_DEVICES: Final = 60
MOST_LISTED: Final = 20
MOST_COLOURS: Final = 7
MONTHS: Final = 24
# A disk that has room for longer is no news.
LONG_YEARS: Final = 5
SMALL: Final = f"<{LEAST}"
OTHER: Final = "other"
_HEIGHT: Final = 200


def page(facts: ReportFacts, *, internal: bool = False) -> str:
    """Return the page. Unless `internal`, numbers about fewer than LEAST patients are withheld."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    allowed = "default-src 'none'; style-src 'unsafe-inline'"
    parts = [
        *_head(facts),
        *_arrivals(facts, internal=internal),
        *_devices(facts, internal=internal),
        '<div class="side">',
        *_places(facts.came, internal=internal),
        *_worse(facts, internal=internal),
        *_waiting(facts),
        "</div>",
        *_growth(facts, internal=internal),
        *_foot(facts, internal=internal),
    ]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{allowed}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>DICOM tables</title>\n<style>\n{style}</style></head><body>",
            *parts,
            "</body></html>\n",
        ]
    )


def _head(facts: ReportFacts) -> Iterator[str]:
    shown = facts.shown
    missing, due = shown.due - shown.followed, f"{shown.due:,} hours"
    if not shown.due:
        kind, text = "", "No hour is due yet"
    elif missing and shown.first_open:
        first = f"{_moment(shown.first_open, facts)} {_place(facts)}"
        kind, text = "bad", f"Not complete: {missing:,} of {due} missing, the first {first}"
        if shown.first_load:
            kind, text = "", f"A first load is under way: {shown.percent} % of {due}"
    else:
        until = f"{_moment(facts.came.until, facts)} {_place(facts)}"
        kind, text = "good", f"Complete up to {until}, {due}"
    needs = list(_needs(facts))
    yield f'<h1 class="{kind}">{text}.</h1>'
    yield f"<p>{'What needs a person:' if needs else 'Nothing needs a person.'}</p>"
    if needs:
        yield "<ul>" + "".join(f"<li>{escape(need)}</li>" for need in needs) + "</ul>"


def _needs(facts: ReportFacts) -> Iterator[str]:
    if facts.shown.followed < facts.shown.due and not facts.shown.first_load:
        yield "Data engineer: read the failed runs of the missing hours."
    for one in facts.silent[:MOST_LISTED]:
        yield (
            f"PACS administrator: {one.device} has sent nothing since before {_day(one.day)}, and "
            f"by {one.by}:00 it had on most of the same weekdays."
        )
    if count := sum(one.count for one in facts.waiting):
        yield f"PACS administrator: waiting entries of the feed ({count:,}), see below."
    if facts.worse:
        yield f"Owners of devices: columns that got worse ({len(facts.worse)}), see below."
    largest = max((one.size.bytes for one in facts.tables.values()), default=0)
    if facts.free is not None and facts.free < largest:
        yield f"Data engineer: only {_bytes(facts.free)} are free on the disk of the tables."


class _Chart(NamedTuple):
    """The 48 hours: their images by modality, the usual band, and the rare modalities."""

    hours: list[datetime]
    bars: dict[str, list[int]]
    band: list[tuple[int, int]]
    rare: list[str]


def _arrivals(facts: ReportFacts, *, internal: bool) -> Iterator[str]:
    chart = _chart(facts.came, internal=internal)
    yield f"<h2>Images of the last {HOURS} hours</h2>"
    if not internal:
        yield f'<p class="soft">By hour, rounded up to multiples of {LEAST}.</p>'
    sums = [sum(values) for values in zip(*chart.bars.values(), strict=True)] or [0]
    top = _round_up(max(*sums, *(high for _, high in chart.band), 1))
    names = list(chart.bars)
    rows = [f'<svg viewBox="0 0 {HOURS * 10} {_HEIGHT}" preserveAspectRatio="none" role="img">']
    rows.append(f"<title>Images by hour and modality, at most {max(sums):,} in an hour</title>")
    for n, ends in enumerate(chart.band):
        rows.append(_rect(n, ends, top, "band", "usual"))
    rows += [f'<path class="grid" d="M0 {y}H{HOURS * 10}"/>' for y in (0, _HEIGHT // 2)]
    for n, hour in enumerate(chart.hours):
        base = 0
        for name in names:
            if value := chart.bars[name][n]:
                label = f"{escape(name)} {value:,}, {_moment(hour, facts)}"
                colour = _colour(names, name)
                rows.append(_rect(n, (base, base + value), top, colour, label))
                base += value
    yield _framed([*rows, "</svg>"], top, _hour_labels(chart.hours, facts))
    keys = [(name, _colour(names, name)) for name in names]
    if any(high for _, high in chart.band):
        keys.append(("usual: eight of ten such hours of the four weeks before", "band"))
    yield _keys(keys)
    if chart.rare:
        rare = ", ".join(map(escape, chart.rare))
        yield f'<p class="soft">{OTHER}: {rare} (some with {escape(SMALL)} patients).</p>'


def _chart(came: Arrivals, *, internal: bool) -> _Chart:
    end = -(-came.until.timestamp() // 3600)
    first = datetime.fromtimestamp(end * 3600, came.until.tzinfo) - HOURS * HOUR
    hours = [first + n * HOUR for n in range(HOURS)]
    rows = came.rows.filter(pc.greater_equal(came.rows["quarter"], pa.scalar(first)))
    cells = _cells(rows, ["modality"], "images")
    order = sorted(cells, key=lambda name: cells[name].number, reverse=True)
    rare = set[Any]()
    if not internal:
        line = [cells[name] for name in order]
        hidden = withheld(line, _whole(rows, "images"))
        rare = {order[n] for n in (range(len(order)) if hidden is None else hidden)}
    shown = [name for name in order if name not in rare][:MOST_COLOURS]
    bars = {name: [0] * HOURS for (name,) in shown}
    bars |= {OTHER: [0] * HOURS} if len(order) > len(shown) else {}
    for row in rows.select(["modality", "quarter", "images"]).to_pylist():
        name = row["modality"] if (row["modality"],) in shown else OTHER
        bars[name][(row["quarter"] - first) // HOUR] += row["images"]
    if not internal:
        # An hour is of few patients, so nobody reads an exact number of it.
        bars = {name: [-(-n // LEAST) * LEAST for n in values] for name, values in bars.items()}
    return _Chart(hours, bars, _band(came, first, hours), sorted(name for (name,) in rare))


def _band(came: Arrivals, first: datetime, hours: Sequence[datetime]) -> list[tuple[int, int]]:
    """Return for each hour the images between which eight of ten earlier hours of its kind lie.

    Those have the same hour of the day, and both are of a weekend or not. Days before the first
    arrival do not count, and without seven there is no band.
    """
    totals = Counter[datetime]()
    for (quarter,), cell in _cells(came.rows, ["quarter"], "images").items():
        totals[floor_hour(quarter)] += cell.number
    earliest = min(totals, default=first)
    if first - earliest < 7 * DAY:
        return []
    kinds = defaultdict[tuple[int, bool], list[int]](list)
    for n in range(1, 24 * DAYS + 1):
        if (hour := first - n * HOUR) >= earliest:
            kinds[_kind(hour, came)].append(totals[hour])
    band = []
    for hour in hours:
        found = sorted(kinds[_kind(hour, came)]) or [0]
        band.append((found[len(found) // 10], found[-1 - len(found) // 10]))
    return band


def _kind(hour: datetime, came: Arrivals) -> tuple[int, bool]:
    local = hour.astimezone(came.zone)
    return local.hour, local.weekday() >= 5  # noqa: PLR2004 - Saturday


def _devices(facts: ReportFacts, *, internal: bool) -> Iterator[str]:
    came, key = facts.came, ["device", "institution"]
    days = [came.today - n * DAY for n in range(DAYS)]  # the newest first: seen on a phone
    last = came.rows.group_by(key).aggregate([("quarter", "max")]).to_pylist()
    last.sort(key=lambda row: (row["quarter_max"], row["device"], row["institution"]))
    devices = {Device(row["device"], row["institution"]): row["quarter_max"] for row in last}
    rows = came.rows.filter(pc.greater_equal(came.rows["day"], pa.scalar(days[-1])))
    by_day, by_device = _cells(rows, [*key, "day"]), _cells(rows, key)
    none = Cell(0, 0)
    grid = [[by_day.get((*one, day), none) for day in days] for one in devices]
    totals = [by_device.get(one, none) for one in devices]
    found = None if internal else withheld_of_grid(grid, totals, _whole(rows))
    every = [{n for n, cell in enumerate(row) if cell.number} for row in grid]
    hidden, without = (
        ([set()] * len(grid), set()) if internal else found or (every, {*range(len(grid))})
    )
    yield "<h2>Devices, series by day</h2>"
    note = "The device that has been silent for the longest time comes first."
    yield f'<p class="soft">{note} {"" if internal else _NOTE}</p>'
    yield '<div class="scroll"><table class="days"><tr><th>device</th><th>silent for</th>'
    yield f"<th>{DAYS} days</th>"
    yield "".join(f'<th{_sunday(day)} title="{_day(day)}">{day.day}</th>' for day in days) + "</tr>"
    silent = {one.device for one in facts.silent}
    most = max((cell.number for row in grid for cell in row), default=1)
    for n, (device, at) in list(enumerate(devices.items()))[:MOST_DEVICES]:
        cells = "".join(
            _cell(cell.number, most, is_hidden=day in hidden[n], more=_sunday(days[day]))
            for day, cell in enumerate(grid[n])
        )
        place = f"<small>{escape(device.institution)}</small>" if device.institution else ""
        mark = ' class="silent"' if device in silent else ""
        total = _number(totals[n].number, is_hidden=n in without and totals[n].number > 0)
        numbers = "".join(f'<td class="n">{one}</td>' for one in (_span(came.until - at), total))
        yield f"<tr><td{mark}>{escape(device.name)}{place}</td>{numbers}{cells}</tr>"
    yield "</table></div>"
    if (left := len(devices) - MOST_DEVICES) > 0:
        yield f'<p class="soft">and {_count(left, "more device")} that sent later.</p>'


_NOTE: Final = (
    f"{escape(SMALL)}: about fewer than ten patients, or withheld so that sums do not give such "
    "a number away."
)


def _places(came: Arrivals, *, internal: bool) -> Iterator[str]:
    """Yield the images by institution and by modality."""
    first = pa.scalar(came.today - (DAYS - 1) * DAY)
    rows = came.rows.filter(pc.greater_equal(came.rows["day"], first))
    for column, title in (("institution", "Institutions"), ("modality", "Modalities")):
        cells = _cells(rows, [column], "images")
        order = sorted(cells, key=lambda name: (-cells[name].number, name))
        found = withheld([cells[name] for name in order], _whole(rows, "images"))
        hidden = set() if internal else {*range(len(order))} if found is None else found
        if order:
            yield f"<section><h2>{title}, images of {DAYS} days</h2>"
            yield f'<p class="soft">{"" if internal else _NOTE}</p>'
            numbers = [_number(cells[o].number, is_hidden=n in hidden) for n, o in enumerate(order)]
            names = [escape(name) or "no name" for (name,) in order]
            yield _table([column, "images"], zip(names, numbers, strict=True)) + "</section>"


def _worse(facts: ReportFacts, *, internal: bool) -> Iterator[str]:
    if facts.worse:
        yield "<section><h2>Columns that got worse</h2>"
        yield '<p class="soft">Share of series without a value, in this week and before.</p>'
        rows = (
            (escape(one.column), escape(str(one.device)), *_shares(one.jump, small))
            for one in facts.worse[:MOST_LISTED]
            for small in [not internal and one.patients < LEAST]
        )
        yield _table(["column of series", "device", "before", "now"], rows) + "</section>"


def _shares(jump: Sequence[float], small: bool) -> Iterator[str]:  # noqa: FBT001 - of one table
    # To ten points: an exact share of a known number would be a number of few patients again.
    return (escape(SMALL) if small else f"about {round(share, 1):.0%}" for share in jump)


def _waiting(facts: ReportFacts) -> Iterator[str]:
    yield "<section><h2>Waiting and rejected</h2>"
    if not facts.waiting:
        yield "<p>No entry of the feed waits.</p></section>"
        return
    rows = (
        (
            escape(one.reason),
            f"{one.count:,}",
            _moment(one.oldest, facts),
            _moment(one.next_attempt, facts) if one.next_attempt else "with its hour",
        )
        for one in facts.waiting
    )
    yield _table(["reason", "entries", "oldest hour", "next attempt"], rows) + "</section>"


def _growth(facts: ReportFacts, *, internal: bool) -> Iterator[str]:
    yield "<h2>Growth</h2>"
    images = facts.tables[INSTANCE.name].rows if INSTANCE.name in facts.tables else 0
    size = sum(one.size.bytes for one in facts.tables.values())
    if _is_small(facts) and not internal:
        yield f"<p>The tables take {_bytes(size)}, for {escape(SMALL)} patients.</p>"
        return
    text = f"{_count(images, 'image')} in {_bytes(size)}."
    if facts.pace is None or not images:
        yield f"<p>{text}</p>"
        return
    per_year = max(0.0, facts.pace) * 365
    more = size * per_year / images
    pace = f"about {_about(facts.pace)}" if facts.pace >= LEAST else f"fewer than {LEAST}"
    text += (
        f" At {pace} images a day, the pace of the last {DAYS} days, about "
        f"{_about(images + per_year)} in {_bytes(size + more)} in a year."
    )
    if facts.free is not None and facts.free < LONG_YEARS * more:
        months = int(12 * facts.free / more)
        text += f" The disk has {_bytes(facts.free)} free, for {_count(months, 'month')}."
    yield f"<p>{escape(text)}</p>"
    if len(facts.months) > 1:
        yield from _growth_chart(facts, images, per_year)


def _growth_chart(facts: ReportFacts, images: int, per_year: float) -> Iterator[str]:
    """Yield the images at the end of each month, and a year ahead."""
    (year, month), last = min(facts.months), max(facts.months)
    months = [
        (year + n // 12, n % 12 + 1) for n in range(month - 1, 12 * (last[0] - year) + last[1])
    ]
    # Counted back from the rows, because an instance may come twice.
    nets = [facts.months.get(one, 0) for one in months]
    since = list(accumulate(reversed(nets[1:]), initial=0))[:MONTHS]
    held, months = [max(0, images - later) for later in reversed(since)], months[-MONTHS:]
    top, width = _round_up(max(*held, images + per_year, 1)), len(held) - 1 + 12
    points = [f"{n * 10} {_y(value, top)}" for n, value in enumerate(held)]
    svg = [
        f'<svg viewBox="0 0 {width * 10} {_HEIGHT}" preserveAspectRatio="none" role="img">',
        "<title>Images at the end of each month, and a year ahead</title>",
        *(f'<path class="grid" d="M0 {y}H{width * 10}"/>' for y in (0, _HEIGHT // 2)),
        f'<path class="now" d="M{"L".join(points)}"/>',
        f'<path class="next" d="M{points[-1]}L{width * 10} {_y(images + per_year, top)}"/></svg>',
    ]
    labels = [f"{y}-{m:02}" for y, m in (months[0], months[-1])]
    labels.append(f"{months[-1][0] + 1}-{months[-1][1]:02}")
    yield _framed(svg, top, [f"<span>{label}</span>" for label in dict.fromkeys(labels)])
    yield '<p class="soft">Dashed: the projection.</p>'


def _foot(facts: ReportFacts, *, internal: bool) -> Iterator[str]:
    is_small = _is_small(facts) and not internal
    rows = (
        (
            name,
            str(one.version),
            _number(one.rows, is_hidden=is_small and name != SYNC.name),
            _bytes(one.size.bytes),
        )
        for name, one in facts.tables.items()
    )
    yield "<footer>" + _table(["table", "version", "rows", "size"], rows)
    whose = "Internal: small numbers are shown. " if internal else ""
    made = f"Made {_moment(facts.now, facts)}. Times are those of {_place(facts)}."
    yield f"<p>{whose}{made} Counts only, no value of a patient.</p></footer>"


def _is_small(facts: ReportFacts) -> bool:
    """True if the tables hold fewer than LEAST patients, so that their sizes are about these."""
    whole = _whole(facts.came.rows)
    return whole.is_small and whole.number == facts.tables[SERIES.name].rows


def _cells(rows: pa.Table, by: Sequence[str], counted: str = "") -> dict[tuple[Any, ...], Cell]:
    """Return series, or the sum of a column, and patients for each combination of values."""
    measure: Any = (counted, "sum") if counted else ([], "count_all")
    wanted: Any = [measure, ("patient", "count_distinct")]
    found = rows.group_by(list(by)).aggregate(wanted).to_pylist()
    name = f"{counted}_sum" if counted else "count_all"
    return {
        tuple(row[column] for column in by): Cell(row[name] or 0, row["patient_count_distinct"])
        for row in found
    }


def _whole(rows: pa.Table, counted: str = "") -> Cell:
    count = pc.sum(rows[counted]).as_py() if counted else rows.num_rows
    return Cell(count or 0, pc.count_distinct(rows["patient"]).as_py())


def _cell(count: int, most: int, *, is_hidden: bool, more: str) -> str:
    if is_hidden:
        kind = "w"
    else:
        kind = f"q{1 + min(3, int(4 * log(count + 1) / log(most + 2)))}" if count else ""
    classes = f'class="n {kind}{" off" if more else ""}"'
    return f"<td {classes}>{_number(count, is_hidden=is_hidden) if count else ''}</td>"


def _sunday(day: date) -> str:
    return ' class="off"' if f"{day:%a}" == "Sun" else ""


def _number(count: float, *, is_hidden: bool) -> str:
    return escape(SMALL) if is_hidden else f"{count:,}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["".join(f"<th>{head}</th>" for head in heads)]
    for first, *others in rows:
        lines.append(f"<td>{first}</td>" + "".join(f'<td class="n">{o}</td>' for o in others))
    return '<div class="scroll"><table><tr>' + "</tr>\n<tr>".join(lines) + "</tr></table></div>"


def _rect(n: int, ends: tuple[float, float], top: float, kind: str, title: str = "") -> str:
    """Return the part of a bar at the place n from one value to another."""
    y, height = _y(ends[1], top), round(_HEIGHT * (ends[1] - ends[0]) / top, 1)
    x, width = (n * 10, 10) if kind == "band" else (n * 10 + 2, 6)
    place = f'x="{x}" width="{width}" y="{y}" height="{height}"'
    return f'<rect class="{kind}" {place}><title>{title}</title></rect>'


def _y(value: float, top: float) -> float:
    return round(_HEIGHT * (1 - value / top), 1)


def _framed(svg: Iterable[str], top: float, below: Iterable[str]) -> str:
    left = "".join(f"<span>{value:,.0f}</span>" for value in (top, top / 2, 0))
    drawn = "\n".join(svg)
    return (
        f'<div class="chart"><div class="axis y">{left}</div>{drawn}'
        f'<div class="axis x">{"".join(below)}</div></div>'
    )


def _hour_labels(hours: Sequence[datetime], facts: ReportFacts) -> Iterator[str]:
    for n in range(0, len(hours), 8):
        local = hours[n].astimezone(facts.zone)
        yield f"<span>{local:%a} {local:%H}:00</span>"
    end = (hours[-1] + HOUR).astimezone(facts.zone)
    yield f'<span class="wide">{end:%a %H}:00</span>'


def _colour(names: Sequence[str], name: str) -> str:
    return "mx" if name == OTHER else f"m{names.index(name)}"


def _keys(keys: Iterable[tuple[str, str]]) -> str:
    spans = (f'<span><i class="{kind}"></i>{escape(name)}</span>' for name, kind in keys)
    return f'<p class="key">{"".join(spans)}</p>'


def _round_up(value: float) -> float:
    """Return the next number of one digit and zeros, or with a half of it: 30, 35, 400, 450."""
    step: float = 10 ** int(log10(value)) / 2
    return max(2.0, -(-value // step) * step)


def _moment(moment: datetime, facts: ReportFacts) -> str:
    return f"{moment.astimezone(facts.zone):%Y-%m-%d %H:%M}"


def _place(facts: ReportFacts) -> str:
    return facts.zone.key.rpartition("/")[2].replace("_", " ")


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


def _span(span: timedelta) -> str:
    return f"{span // DAY} d" if span >= 2 * DAY else f"{span // HOUR} h"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _about(number: float) -> str:
    return f"{float(f'{number:.2g}'):,.0f}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - of a unit
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
