"""How many values of the newest headers do not parse: what devices write that their VR forbids.

The headers of the newest rows are read into columns once more, and what came to null because it is
none of its VR is counted. Nothing is written.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from dicom_assets.header.extraction import extraction
from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.upkeep.kept_headers import newest


@dataclass(frozen=True)
class Parsing:
    """What was found in so many headers: values that parsed, by column, and that did not.

    `unparsable` counts by `column: reason`.
    """

    headers: int
    parsed: Counter[str]
    unparsable: Counter[str]

    def rates(self) -> dict[str, float]:
        """Return by column which part of the values did not parse, greatest first."""
        wrong = Counter[str]()
        for told, count in self.unparsable.items():
            wrong[told.partition(":")[0]] += count
        found = {name: count / (count + self.parsed[name]) for name, count in wrong.items()}
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def look(store: Store, zone: str | None, size: int) -> Parsing:
    """Return what becomes of the headers of the rows with the greatest sequences."""
    return parse(store, zone, newest(store, size))


def parse(store: Store, zone: str | None, texts: Iterable[str]) -> Parsing:
    """Return what becomes of headers in the columns that the tables have now."""
    made = extraction(store.tables[INSTANCE.name], zone)
    decoded = (made.decode(text.encode()) for text in texts)
    headers = [header for header in decoded if header is not None]
    columns, unparsable = made.columns(headers)
    parsed = Counter({n: sum(v is not None for v in values) for n, values in columns.items()})
    return Parsing(len(headers), parsed, unparsable)
