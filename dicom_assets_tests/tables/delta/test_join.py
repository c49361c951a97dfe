"""Files become one, sorted: every value stays, whatever order, sizes and headers were."""

import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicom_assets.errors import TableUnavailableError
from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta import files
from dicom_assets.tables.delta import join as joining
from dicom_assets.tables.delta.files import DataFile, data_files
from dicom_assets.tables.delta.join import join
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Row, insert, key, row


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A root without tables."""
    return store_in(tmp_path)


def rows_of(seed: int, count: int) -> Iterator[Row]:
    """Rows in any order: few studies, sequences twice and null, headers of any length."""
    drawn = random.Random(seed)
    for number in range(count):
        of = key(str(number), study=str(drawn.randrange(9)), series=str(drawn.randrange(3)))
        sequence = drawn.choice([None, drawn.randrange(count), 7])
        header = "x" * drawn.choice([0, 10, 5_000])
        named = dict(zip(INSTANCE.key, of, strict=True))
        yield named | {"sequence": sequence, "metadata_string": header or None, "rows": number}


def joined(store: Store, groups: list[list[Row]]) -> DataFile:
    """Make a file of each group, and one of all of them."""
    for group in groups:
        insert(store, INSTANCE, group)
    snapshot = store.open(INSTANCE)
    seen: list[int] = []
    replacement = join(snapshot, data_files(snapshot), "joined-", seen.append)
    files.commit(snapshot, [replacement], {})
    assert sum(seen) == replacement.new.rows == sum(map(len, groups))
    return replacement.new


@pytest.mark.parametrize("stretch", [joining.STRETCH_BYTES, 20_000, 1])
@pytest.mark.parametrize("seed", range(3))
def test_every_row_stays_and_is_in_its_place(
    store: Store, monkeypatch: pytest.MonkeyPatch, seed: int, stretch: int
) -> None:
    """In one stretch, in some, and in one for each row."""
    monkeypatch.setattr(joining, "STRETCH_BYTES", stretch)
    monkeypatch.setattr(joining, "PIECE_ROWS", 7)
    rows = list(rows_of(seed, 60))
    new = joined(store, [rows[:1], rows[1:40], rows[40:]])
    held = store.open(INSTANCE).rows().to_pylist()
    named = [dict.fromkeys(INSTANCE.names) | row for row in rows]
    assert sorted(map(repr, held)) == sorted(map(repr, named))
    lying = pl.read_parquet(Path(store.urls["instance"]) / new.path)
    names = ["studyinstanceuid", "seriesinstanceuid", "sequence"]
    assert lying.equals(lying.sort(names, nulls_last=True, maintain_order=True))


def test_a_file_of_another_number_of_rows_is_refused(store: Store) -> None:
    """Than the log says."""
    insert(store, INSTANCE, [row(1), row(2, "2")])
    snapshot = store.open(INSTANCE)
    (file,) = data_files(snapshot)
    wrong = DataFile(file.path, file.partition, file.size, 3)
    with pytest.raises(TableUnavailableError, match=r"has 2 rows, and the table's log says 3"):
        join(snapshot, [wrong], "joined-", lambda _: None)


def test_headers_are_not_held_as_they_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 MB of them, no more than some stretches lie in memory at once."""
    monkeypatch.setattr(joining, "STRETCH_BYTES", 2**20)
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", 2**20)
    monkeypatch.setattr(files, "PIECE_BYTES", 2**20)
    for start in range(0, 1_500, 500):
        insert(
            store,
            INSTANCE,
            [
                row(n, str(n), metadata_string=f"{n}" * (40_000 // len(str(n))))
                for n in range(start, start + 500)
            ],
        )
    snapshot, most = store.open(INSTANCE), [0]

    def look(_: int) -> None:
        most[0] = max(most[0], pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    new = join(snapshot, data_files(snapshot), "joined-", look).new
    assert most[0] - before < 32 * 2**20
    assert pq.read_metadata(Path(store.urls["instance"]) / new.path).num_rows == 1_500
