"""Data Factory's template, as far as its tables show it: three generations, and how Spark writes.

Written from the template's data flow: a page of the feed is cut into columns, the last change of
each instance is merged into `instance`, and the touched series and studies are counted anew. Its
faults are its own: a row needs a file path unless it is a Delete, a page that fails or writes no
row ends the window, nothing is taken out of `series` and `study`. Nothing of the project is used,
so that a fault on either side shows.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    Row = dict[str, Any]
    Key = tuple[Any, ...]

ENGINE: Final = "Apache-Spark/3.3.1 Delta-Lake/2.2.0"
DEPTHS: Final = {"instance": 4, "series": 3, "study": 2}
_STATISTICS_COLUMNS: Final = 4
_STATISTICS_LENGTH: Final = 32
_CHECKPOINT_INTERVAL: Final = 10

_KEY: Final = "partitionName string|studyInstanceUid string|seriesInstanceUid string|"
_FIRST: Final = (
    f"{_KEY}sopInstanceUid string|lastModifiedTimestamp timestamp|studyDate date|"
    "studyDescription string|issuerOfPatientId string|patientId string|patientName string|"
    "modality string|sopClassUid string|"
)
_TEXTS: Final = {
    "studydate": "00080020",
    "studydescription": "00081030",
    "issuerofpatientid": "00100021",
    "patientid": "00100020",
    "modality": "00080060",
    "sopclassuid": "00080016",
    "patientbirthdate": "00100030",
    "accessionnumber": "00080050",
    "modalitiesinstudy": "00080061",
    "performedprocedurestepstartdate": "00400244",
    "manufacturermodelname": "00081090",
    "studytime": "00080030",
    "timezoneoffsetfromutc": "00080201",
    "numberofstudyrelatedseries": "00201206",
    "numberofstudyrelatedinstances": "00201208",
    "seriesnumber": "00200011",
    "seriesdescription": "0008103E",
    "numberofseriesrelatedinstances": "00201209",
    "bodypartexamined": "00180015",
    "laterality": "00200060",
    "seriesdate": "00080021",
    "seriestime": "00080031",
    "instancenumber": "00200013",
    "documenttitle": "00420010",
}
_THIRD: Final = (
    "partitionName string|studyinstanceuid string|seriesinstanceuid string|sopinstanceuid string|"
    "lastModifiedTimestamp timestamp|studydate string|studydate_formatted date|"
    "studydescription string|issuerofpatientid string|patientid string|patientname string|"
    "modality string|sopclassuid string|filepath string|metadata map|metadata_string string|"
    "created_date timestamp|patientbirthdate string|accessionnumber string|"
    "referringphysicianname string|modalitiesinstudy string|"
    "performedprocedurestepstartdate string|manufacturermodelname string|studytime string|"
    "timezoneoffsetfromutc string|numberofstudyrelatedseries string|"
    "numberofstudyrelatedinstances string|seriesnumber string|seriesdescription string|"
    "numberofseriesrelatedinstances string|bodypartexamined string|laterality string|"
    "seriesdate string|seriestime string|instancenumber string|documenttitle string"
)
INSTANCE: Final = {1: f"{_FIRST}metadata string", 2: f"{_FIRST}filePath string", 3: _THIRD}
_OF_STUDY: Final = (
    "lastModifiedTimestamp timestamp|studyDate date|studyDescription string|"
    "issuerOfPatientId string|patientId string|patientName string|"
)
SERIES: Final = f"{_KEY}{_OF_STUDY}modality string|instanceCount long"
STUDY: Final = (
    f"partitionName string|studyInstanceUid string|{_OF_STUDY}seriesCount long|instanceCount long"
)

_ARROW: Final[dict[str, pa.DataType]] = {
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "long": pa.int64(),
    "map": pa.map_(pa.string(), pa.struct([("vr", pa.string()), ("Value", pa.list_(pa.string()))])),
}
_VALUES: Final = {"type": "array", "elementType": "string", "containsNull": True}
_DELTA: Final[dict[str, Any]] = {
    **{name: name for name in ("string", "date", "timestamp", "long")},
    "map": {
        "type": "map",
        "keyType": "string",
        "valueType": {
            "type": "struct",
            "fields": [
                {"name": "vr", "type": "string", "nullable": True, "metadata": {}},
                {"name": "Value", "type": _VALUES, "nullable": True, "metadata": {}},
            ],
        },
        "valueContainsNull": True,
    },
}


def columns(text: str) -> dict[str, str]:
    """The columns of a table, each with Spark's type, in order."""
    return dict(column.split(" ") for column in text.split("|"))


# --- Delta as Spark writes it ---------------------------------------------------------------------


@dataclass
class SparkTable:
    """A Delta table with a log as Spark writes it: snappy, INT96, a checkpoint each ten commits."""

    path: Path
    columns: dict[str, str]
    int96: bool = True
    configuration: dict[str, str] = field(default_factory=dict)
    rows: dict[Key, Row] = field(default_factory=dict)
    version: int = -1
    _files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def commit(self, rows: dict[Key, Row], at: datetime, operation: str = "MERGE") -> None:
        """The table holds these rows; data partitions whose rows changed have another file."""
        moment = int(at.timestamp() * 1000)
        actions = [self._info(moment, operation)]
        if self.version < 0:
            actions += [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}]
            actions += [{"metaData": self._metadata(moment)}]
        for partition in sorted({key[0] for key in {**rows, **self.rows}}):
            before, after = (_of(given, partition) for given in (self.rows, rows))
            if before != after:
                actions += self._exchange(partition, list(after.values()), moment)
        self.rows = rows
        self._log(actions)

    def _exchange(self, partition: str, rows: list[Row], moment: int) -> list[dict[str, Any]]:
        actions = []
        values = {"partitionName": partition}
        if (old := self._files.pop(partition, None)) is not None:
            gone = {"deletionTimestamp": moment, "dataChange": True, "extendedFileMetadata": True}
            kept = {name: old[name] for name in ("path", "partitionValues", "size")}
            actions += [{"remove": kept | gone}]
        if rows:
            path = f"partitionName={partition}/part-00000-{uuid.uuid4()}.c000.snappy.parquet"
            size = self._write(path, rows)
            add = {"path": path, "partitionValues": values, "size": size, "dataChange": True}
            add |= {"modificationTime": moment, "stats": json.dumps(self._statistics(rows))}
            self._files[partition] = add
            actions += [{"add": add}]
        return actions

    def _write(self, path: str, rows: list[Row]) -> int:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        types = {n: _ARROW[t] for n, t in self.columns.items() if n != "partitionName"}
        data = pa.Table.from_pylist(rows, schema=pa.schema(types))
        pq.write_table(data, file, compression="snappy", use_deprecated_int96_timestamps=self.int96)
        return file.stat().st_size

    def _statistics(self, rows: list[Row]) -> dict[str, Any]:
        shown = [n for n, t in self.columns.items() if t == "string"][1:_STATISTICS_COLUMNS]
        values = {n: sorted(row[n] for row in rows if row[n] is not None) for n in shown}
        return {
            "numRecords": len(rows),
            "minValues": {n: v[0][:_STATISTICS_LENGTH] for n, v in values.items() if v},
            "maxValues": {n: _most(v[-1]) for n, v in values.items() if v},
            "nullCount": {n: len(rows) - len(v) for n, v in values.items()},
        }

    def _info(self, moment: int, operation: str) -> dict[str, Any]:
        info = {"timestamp": moment, "operation": operation, "operationParameters": {}}
        info |= {"isolationLevel": "Serializable", "isBlindAppend": False, "engineInfo": ENGINE}
        if self.version >= 0:
            info["readVersion"] = self.version
        return {"commitInfo": info | {"txnId": str(uuid.uuid4())}}

    def _metadata(self, moment: int) -> dict[str, Any]:
        fields = [
            {"name": name, "type": _DELTA[kind], "nullable": True, "metadata": {}}
            for name, kind in self.columns.items()
        ]
        return {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": ["partitionName"],
            "configuration": self.configuration,
            "createdTime": moment,
        }

    def _log(self, actions: Iterable[Mapping[str, Any]]) -> None:
        self.version += 1
        log = self.path / "_delta_log"
        log.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{json.dumps(action)}\n" for action in actions)
        (log / f"{self.version:020}.json").write_text(text, encoding="utf-8")
        if self.version and self.version % _CHECKPOINT_INTERVAL == 0:
            DeltaTable(str(self.path)).create_checkpoint()


def _of(rows: dict[Key, Row], partition: str) -> dict[Key, Row]:
    return {key: row for key, row in rows.items() if key[0] == partition}


def _most(text: str) -> str:
    return text if len(text) <= _STATISTICS_LENGTH else f"{text[:_STATISTICS_LENGTH]}\ufffd"


# --- what the data flow makes of a page ----------------------------------------------------------


@dataclass
class Template:
    """The pipeline over one root.

    `has_names` is false in the third generation's first three weeks, when names stayed empty.
    """

    root: Path
    generation: int = 3
    batch_size: int = 200
    int96: bool = True
    has_names: bool = True
    tables: dict[str, SparkTable] = field(init=False)

    def __post_init__(self) -> None:
        """The tables are empty, and not there."""
        texts = {"instance": INSTANCE[self.generation], "series": SERIES, "study": STUDY}
        compacted = {"delta.autoOptimize.autoCompact": "true"}
        self.tables = {
            name: SparkTable(self.root / name, columns(text), self.int96, dict(compacted))
            for name, text in texts.items()
        }

    def run(self, url: str, start: datetime, end: datetime, *, fails_at: int | None = None) -> int:
        """One window of the trigger, a quarter of an hour after its end; returns its pages.

        A page whose data flow fails ends the window, and the pipeline does not fail with it.
        """
        for number in range(10_000):
            entries = self._page(url, start, end, number * self.batch_size)
            if number == fails_at or not self.take(entries, end + timedelta(minutes=16)):
                return number
        raise AssertionError("the window does not end")

    def _page(self, url: str, start: datetime, end: datetime, offset: int) -> list[dict[str, Any]]:
        asked = {"startTime": f"{start:%Y-%m-%dT%H:%M:%SZ}", "endTime": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
        asked |= {"offset": str(offset), "limit": str(self.batch_size), "includeMetadata": "true"}
        answer = httpx.get(f"{url}/v2/changefeed", params=asked).raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def take(self, entries: list[dict[str, Any]], at: datetime) -> bool:
        """A page is in the tables; whether it wrote rows."""
        changes = {_key(entry): entry for entry in entries}
        needed = "metadata" if self.generation == 1 else "filePath"
        kept = {
            key: entry
            for key, entry in changes.items()
            if entry["action"] == "Delete" or entry.get(needed) is not None
        }
        if not kept:
            return False
        instance = dict(self.tables["instance"].rows)
        for key, entry in kept.items():
            instance.pop(key, None)
            if entry["action"] != "Delete":
                instance[key] = self._row(entry, at)
        self.tables["instance"].commit(instance, at)
        self._count(kept, at)
        return True

    def _count(self, changed: Iterable[Key], at: datetime) -> None:
        """Touched series and studies that have rows are counted anew; no other row is looked at."""
        below: Iterable[Row] = map(self._as_series, self.tables["instance"].rows.values())
        for name in ("series", "study"):
            table, depth = self.tables[name], DEPTHS[name]
            touched = {key[:depth] for key in changed}
            groups: dict[Key, list[Row]] = {}
            for row in below:
                groups.setdefault(tuple(row.values())[:depth], []).append(row)
            fresh = {k: _group(table, rows) for k, rows in groups.items() if k in touched}
            table.commit({**table.rows, **fresh}, at)
            below = list(table.rows.values())

    def _as_series(self, row: Row) -> Row:
        lower = {name.lower(): value for name, value in row.items()}
        day = row["studydate_formatted"] if self.generation > 2 else row["studyDate"]
        known = {name: lower.get(name.lower()) for name in self.tables["series"].columns}
        return known | {"studyDate": day, "instanceCount": 1}

    def _row(self, entry: dict[str, Any], at: datetime) -> Row:
        make = _third if self.generation == 3 else _first
        made = make(entry, at)
        if not self.has_names:
            made |= {n: None for n in ("patientname", "referringphysicianname") if n in made}
        return {name: made.get(name) for name in self.tables["instance"].columns}


def _key(entry: dict[str, Any]) -> Key:
    names = ("partitionName", "studyInstanceUid", "seriesInstanceUid", "sopInstanceUid")
    return tuple(entry[name] for name in names)


def _group(table: SparkTable, rows: list[Row]) -> Row:
    """Return the result of `last()` on a group without order, and its counts."""
    counts = {"instanceCount": sum(r["instanceCount"] for r in rows), "seriesCount": len(rows)}
    return {name: (rows[-1] | counts).get(name) for name in table.columns}


def _moment(text: str) -> datetime | None:
    """A time of the feed, cut to milliseconds; null when it has fewer than three digits."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", text[:23]):
        return None
    return datetime.fromisoformat(text[:23]).replace(tzinfo=UTC)


def _values(header: Mapping[str, Any], tag: str) -> list[str | None]:
    found = header.get(tag, {}).get("Value", [])
    return [value if value is None or isinstance(value, str) else _json(value) for value in found]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _first_of(header: Mapping[str, Any], tag: str) -> str | None:
    """The first value alone, as text."""
    values = _values(header, tag)
    return values[0] if values else None


def _name(header: Mapping[str, Any], tag: str) -> str | None:
    """The regular expression over the JSON of a name: it stops at the first quote."""
    text = _first_of(header, tag)
    if text is None:
        return None
    found = re.search(r'"Alphabetic"\s*:\s*"([^"]*)"', text)
    return found[1] if found else ""


def _date(text: str | None) -> date | None:
    try:
        return (
            None if text is None else datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
        )
    except ValueError:
        return None


def _first(entry: dict[str, Any], at: datetime) -> Row:
    """A row of the first two generations."""
    del at
    header = entry.get("metadata", {})
    name = header.get("00100010", {}).get("Value", [None])[0]
    return {
        **dict(zip(columns(INSTANCE[1]), _key(entry), strict=False)),
        "lastModifiedTimestamp": _moment(entry["timestamp"]),
        "studyDate": _date(_first_of(header, "00080020")),
        "studyDescription": _first_of(header, "00081030"),
        "issuerOfPatientId": _first_of(header, "00100021"),
        "patientId": _first_of(header, "00100020"),
        "patientName": None if name is None else name.get("Alphabetic"),
        "modality": _first_of(header, "00080060"),
        "sopClassUid": _first_of(header, "00080016"),
        "metadata": _json(header),
        "filePath": entry.get("filePath"),
    }


def _third(entry: dict[str, Any], at: datetime) -> Row:
    """A row of the third generation."""
    header = entry.get("metadata", {})
    mapped = [(t, {"vr": e.get("vr"), "Value": _values(header, t)}) for t, e in header.items()]
    return {
        **dict(zip(columns(INSTANCE[3]), _key(entry), strict=False)),
        **{name: _first_of(header, tag) for name, tag in _TEXTS.items()},
        "lastModifiedTimestamp": _moment(entry["timestamp"]),
        "studydate_formatted": _date(_first_of(header, "00080020")),
        "patientname": _name(header, "00100010"),
        "referringphysicianname": _name(header, "00080090"),
        "filepath": entry.get("filePath"),
        "metadata": mapped,
        "metadata_string": _spark_text(mapped),
        "created_date": at,
    }


def _spark_text(mapped: Iterable[tuple[str, Row]]) -> str:
    """A map as Spark casts it to text, which is no JSON."""
    parts = (
        f"{tag} -> {{{element['vr']}, [{', '.join(v or 'null' for v in element['Value'])}]}}"
        for tag, element in mapped
    )
    return f"{{{', '.join(parts)}}}"
