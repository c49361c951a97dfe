"""A made archive in the shape of real ones: rows of `instance`, as many as wanted, always the same.

How many series a study has, and how many instances a series, is drawn from the index of the NCI
Imaging Data Commons: `idc-index-data` 25.0.5, 1,044,191 series of 168,507 studies with 58.8 million
instances. `python -m dicom_assets_tests.bench.archive`, where that package is, prints the table
anew. The index has no headers. Their lengths have the median, the mean and the ends that were
counted in that archive (2.6 kB, 6.9 kB, 95 of 100 up to 10.4 kB, one of 789 kB), and between them
they are drawn on a logarithmic scale.

A header is one of pydicom's real files, the longest that is not too long, with UIDs and numbers of
its own. What is missing to its length are decimal numbers in a private attribute, most of them the
same in all instances of a series: that part zstd finds, as it does in real series.
"""

from __future__ import annotations

import itertools
import json
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from math import exp, log
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.tables.delta.arrow import pc, texts
from dicom_assets_tests.bench.headers import ROOT_UID, dumped, entry, real

if TYPE_CHECKING:
    from collections.abc import Iterator

# Which part of all has at most so many.
INSTANCES_OF_SERIES: Final = (
    *((0, 1), (0.5, 1), (0.6, 3), (0.7, 16), (0.8, 90), (0.9, 161), (0.95, 206), (0.98, 343)),
    *((0.99, 560), (0.999, 1_260), (0.9995, 2_115), (0.9999, 15_839), (1, 91_980)),
)
SERIES_OF_STUDY: Final = (
    *((0, 1), (0.2, 1), (0.3, 2), (0.4, 4), (0.5, 5), (0.6, 6), (0.7, 9), (0.8, 9), (0.9, 12)),
    *((0.95, 17), (0.99, 25), (0.999, 57), (0.9999, 99), (1, 235)),
)
HEADER_BYTES: Final = ((0, 1_200), (0.5, 2_600), (0.95, 10_400), (0.99, 42_000), (1, 789_000))
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
# A larger study, of which there are ten in a thousand, is left out: tables of one size are alike.
LARGEST: Final = 3_000
_OWN: Final = ("00080018", "0020000D", "0020000E", "00200013", "00291010")
_PRIVATE: Final = '"00291010":{"vr":"UT","Value":["'
_POOL: Final = 16 * 2**20


@dataclass(frozen=True)
class Study:
    """A study: its number, the sequence of its first instance, the sizes of its series."""

    number: int
    first: int
    series: tuple[int, ...]

    @property
    def instances(self) -> int:
        """How many instances it has."""
        return sum(self.series)

    @property
    def uid(self) -> str:
        """Its UID, which says nothing of when it came."""
        return _uid(Random(self.number), "s")


def studies(first: int = 0, number: int = 0) -> Iterator[Study]:
    """Yield studies in the order of their arrival, from a sequence and a number on."""
    for at in itertools.count(number):
        random = Random(at)
        count = drawn(SERIES_OF_STUDY, random)
        series = tuple(drawn(INSTANCES_OF_SERIES, random) for _ in range(count))
        if sum(series) <= LARGEST:
            yield Study(at, first, series)
            first += sum(series)


def drawn(quantiles: tuple[tuple[float, int], ...], random: Random) -> int:
    """Return a number of a distribution, drawn on a logarithmic scale between its quantiles."""
    part = random.random()
    at = min(bisect_right([p for p, _ in quantiles], part), len(quantiles) - 1)
    (low, least), (high, most) = quantiles[at - 1], quantiles[at]
    return round(exp(log(least) + (log(most) - log(least)) * (part - low) / (high - low)))


def rows_of(study: Study, *, headers: bool) -> pa.Table:
    """Return the rows of a study in the table's order, without headers where none are wanted."""
    random, kinds = Random(study.number), _kinds()
    uid, sequence = study.uid, study.first
    own: dict[str, list[Any]] = {name: [] for name in ("series", "sop", "number", "kind", "text")}
    for count, series in sorted((n, _uid(random, "e")) for n in study.series):
        kind, pool = random.randrange(len(kinds.texts)), random.randrange(_POOL // 2)
        own["series"] += [series] * count
        own["kind"] += [kind] * count
        own["number"] += range(1, count + 1)
        sops = [_uid(random, "o") for _ in range(count)]
        own["sop"] += sops
        for n, sop in enumerate(sops) if headers else ():
            own["text"].append(kinds.header((uid, series, sop), n, pool, random))
    rows = kinds.rows.take(pa.array(own["kind"], pa.int32()))
    count = study.instances
    moments = [START + timedelta(milliseconds=sequence + n) for n in range(count)]
    values = {
        "studyinstanceuid": [uid] * count,
        "seriesinstanceuid": own["series"],
        "sopinstanceuid": own["sop"],
        "instancenumber": own["number"],
        "sequence": list(range(sequence, sequence + count)),
        "metadata_string": own["text"] if headers else [None] * count,
        **dict.fromkeys(("lastModifiedTimestamp", "received_timestamp", "created_date"), moments),
        **dict.fromkeys(("patientid", "patientname", "studyid"), [f"P{study.number}"] * count),
    }
    for name, column in values.items():
        at = rows.schema.get_field_index(name)
        field = rows.schema.field(at)
        rows = rows.set_column(at, field, pa.array(column).cast(field.type))
    return rows


def _uid(random: Random, kind: str) -> str:
    return f"{ROOT_UID}.{'seo'.index(kind) + 1}.{random.getrandbits(64)}"


class _Kinds:
    """pydicom's real headers: as texts around what is of an instance's own, and as rows."""

    def __init__(self) -> None:
        pages = b",".join(entry(0, header) for header in real())
        read = [row for _, row in decode_page(b"[" + pages + b"]")]
        rows, _, _ = RowReader().read([row for row in read if isinstance(row, Entry)])
        length = pc.binary_length(rows["metadata_string"])
        self.rows = rows.take(pc.sort_indices(length))
        headers = map(json.loads, texts(self.rows["metadata_string"]))
        self.texts = [dumped({t: v for t, v in h.items() if t not in _OWN}) for h in headers]
        self.lengths = [len(text) for text in self.texts]
        random = Random(1)
        self.pool = " ".join(f"{random.gauss(0, 300):.4f}" for _ in range(_POOL // 9))

    def header(self, uids: tuple[str, str, str], number: int, pool: int, random: Random) -> str:
        """Return a header of a drawn length for an instance."""
        length = max(drawn(HEADER_BYTES, random) - 380, 0)
        at = max(bisect_right(self.lengths, length) - 1, 0)
        start = random.randrange(_POOL // 2)
        own = self.pool[start : start + 64]
        names = ",".join(
            f'"0020000{t}":{{"vr":"UI","Value":["{u}"]}}' for t, u in zip("DE", uids, strict=False)
        )
        rest = max(length - self.lengths[at], 0)
        filled = self.pool[pool : pool + rest]
        return (
            f'{{"00080018":{{"vr":"UI","Value":["{uids[2]}"]}},{names},'
            f'"00200013":{{"vr":"IS","Value":[{number + 1}]}},{_PRIVATE}{own} {filled}"]}},'
            f"{self.texts[at][1:]}"
        )


@cache
def _kinds() -> _Kinds:
    return _Kinds()


def _main() -> None:
    """Print the quantiles of the two columns of `idc-index-data`."""
    import idc_index_data  # type: ignore[import-not-found, unused-ignore] # of no environment here
    import pyarrow.parquet as pq

    index = pq.read_table(idc_index_data.IDC_INDEX_PARQUET_FILEPATH)
    groups = index.group_by("StudyInstanceUID").aggregate([("SeriesInstanceUID", "count")])
    for name, column, quantiles in (
        ("instances of a series", index["instanceCount"], INSTANCES_OF_SERIES),
        ("series of a study", groups["SeriesInstanceUID_count"], SERIES_OF_STUDY),
    ):
        parts = [part for part, _ in quantiles]
        found = pc.quantile(column, q=parts, interpolation="nearest").to_pylist()
        print(name, list(zip(parts, found, strict=True)), "mean", pc.mean(column))  # noqa: T201


if __name__ == "__main__":
    _main()
