"""Engines that are not ours read the tables as we do, after everything that happens to tables.

Every row and every column, types included; and the same answers where they skip files by data
partition and by statistics.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pytest

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep import maintenance
from dicom_assets_tests.components import azurite, lives, readers
from dicom_assets_tests.components.azurite import ACCOUNT
from dicom_assets_tests.components.cloud import CONTAINER
from dicom_assets_tests.components.lives import PARTITIONS, STEPS, TAKEN, Step
from dicom_assets_tests.components.readers import (
    READERS,
    WITHOUT_QUESTIONS,
    Answer,
    Question,
    Reader,
)
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.history import START, series_uid, study_uid
from dicom_assets_tests.support.layout import ROOT
from dicom_assets_tests.support.maintained import age
from dicom_assets_tests.support.protocol import violations
from dicom_assets_tests.support.steps import store_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dicom_assets.tables.delta.snapshot import Store
    from dicom_assets_tests.components.cloud import Cloud

    Row = dict[str, Any]

pytestmark = [
    pytest.mark.timeout(300),  # the tables live through a dozen steps before the first test
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated; use `model_dump` instead"),
]

KEYS: Final = {table.name: table.key for table in TABLES}
WITHOUT_NULL_LISTS: Final = frozenset({"clickhouse"})
"""Its arrays cannot be null: an attribute without a value is one with an empty list."""

WITHOUT_MOMENTS: Final = frozenset({"duckdb", "clickhouse"})
"""They skip files by texts and numbers, not by moments."""

MOMENT: Final = {"moment": f"{START:%Y-%m-%d %H:%M:%S.%f}"}
LATER: Final = {"moment": f"{START + timedelta(hours=5, minutes=1):%Y-%m-%d %H:%M:%S.%f}"}
QUESTIONS: Final = {
    "instances of each study": ("instance", Question("studyinstanceuid")),
    "by modality": ("instance", Question("modality")),
    "of one data partition": (
        "instance",
        Question("studyinstanceuid", (("partitionName", "=", PARTITIONS[1]),)),
    ),
    "of a data partition like a date": (
        "series",
        Question("modality", (("partitionName", "=", PARTITIONS[3]),)),
    ),
    "of the last hour": (
        "instance",
        Question("modality", (("lastModifiedTimestamp", ">=", LATER),)),
    ),
    "before the last hour": (
        "change",
        Question("action", (("timestamp", ">=", MOMENT), ("timestamp", "<", LATER))),
    ),
    "of one study": (
        "instance",
        Question("seriesinstanceuid", (("studyinstanceuid", "=", study_uid(2)),)),
    ),
    "after a sequence that no double holds": (
        "change",
        Question("action", (("sequence", ">=", 2**53 + 21),)),
    ),
}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    """The tables after each step of both roots."""
    own, theirs = (tmp_path_factory.mktemp(name) for name in ("own", "theirs"))
    return lives.lived(own) | lives.taken_over(theirs)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Reader]]:
    """Engines by name, each started when it is wanted first."""
    with ExitStack() as stack:

        @cache
        def started(name: str) -> Reader:
            return stack.enter_context(readers.running(name, tmp_path_factory.mktemp(name)))

        yield started


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, engines: Callable[[str], Reader]) -> Reader:
    """One engine after the other."""
    return engines(request.param)


@pytest.fixture(params=[name for name in READERS if name not in WITHOUT_QUESTIONS])
def asked(request: pytest.FixtureRequest, engines: Callable[[str], Reader]) -> Reader:
    """One engine after the other, of those that take questions."""
    return engines(request.param)


# --- every row ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*STEPS, *TAKEN])
def test_a_reader_has_the_rows_that_we_have(
    reader: Reader, steps: dict[str, Step], name: str
) -> None:
    """In all tables: columns in order, their types, instants in UTC, null where ours is null."""
    _require_equal(reader, str(steps[name].root), steps[name])


def _require_equal(reader: Reader, root: str, step: Step) -> None:
    nulls = reader.name not in WITHOUT_NULL_LISTS
    for table, ours in step.ours.items():
        theirs = reader.rows(f"{root}/{table}")
        assert _kinds(theirs.schema) == _kinds(ours.schema), table
        assert _ordered(theirs, table) == _ordered(ours, table, null_lists=nulls), table


def _kinds(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, _kind(field.type)) for field in schema]


def _kind(type_: pa.DataType) -> str:
    """The type in words that all engines share; a map may come as a list of pairs."""
    if pa.types.is_large_string(type_):
        return "string"
    if pa.types.is_timestamp(type_):
        return f"{type_.unit}, an instant" if type_.tz else f"{type_.unit}, of no zone"
    return "header" if pa.types.is_map(type_) or pa.types.is_large_list(type_) else str(type_)


def _ordered(rows: pa.Table, table: str, *, null_lists: bool = True) -> list[Row]:
    plain = [row | _header(row, null_lists=null_lists) for row in rows.to_pylist()]
    return sorted(plain, key=lambda row: tuple(str(row[name]) for name in KEYS[table]))


def _header(row: Row, *, null_lists: bool) -> Row:
    """The map of a header as a dict by tag, whatever the engine makes of it."""
    if row.get("metadata") is None:
        return {}
    pairs = [tuple(e.values()) if isinstance(e, dict) else e for e in row["metadata"]]
    return {"metadata": {tag: _element(element, null_lists=null_lists) for tag, element in pairs}}


def _element(element: Row, *, null_lists: bool) -> Row:
    empty: list[str] | None = None if null_lists else []
    return element | {"Value": empty if element["Value"] is None else element["Value"]}


def test_what_is_read_is_odd_enough(steps: dict[str, Step]) -> None:
    """Nulls and empty texts, days before 1900, sequences beyond 2^53, a header, a rejection."""
    last, theirs = steps["gone_on"].ours, steps[TAKEN[0]].ours["instance"]
    instances = last["instance"].to_pylist()
    assert {row["partitionName"] for row in instances} == set(PARTITIONS) - {PARTITIONS[2]}
    days = {row["studydate_formatted"] for row in instances}
    assert None in days
    assert min(days - {None}).year < 1900
    assert max(row["sequence"] for row in instances) > 2**53
    assert {row["studydescription"] for row in instances} >= {None, "\\N", "NULL"}
    assert any(element["Value"] is None for row in instances for _, element in row["metadata"])
    assert {row["meanSmallest"] for row in last["series"].to_pylist()} > {7.0}
    assert last["rejected"].num_rows == 1
    assert set(theirs["referringphysicianname"].to_pylist()) == {""}
    assert set(theirs["protocolname"].to_pylist()) == {None}


# --- the same answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deleted", "gone_on"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_reader_gives_the_answer_that_the_rows_give(
    asked: Reader, steps: dict[str, Step], name: str, question: str
) -> None:
    """Whatever files it skips."""
    (table, given), step = QUESTIONS[question], steps[name]
    expected = _answer(step.ours[table], given)
    assert asked.ask(str(step.root / table), given) == expected
    assert expected or name != "gone_on"


def _answer(rows: pa.Table, question: Question) -> Answer:
    """The answer from whole rows, with nothing skipped."""
    counts = Counter(row[question.by] for row in rows.to_pylist() if _is_met(row, question.where))
    pairs = [list(pair) for pair in counts.items()]
    return sorted(pairs, key=lambda pair: (pair[0] is not None, str(pair[0])))


def _is_met(row: Row, where: tuple[tuple[str, str, Any], ...]) -> bool:
    told = {"=": lambda a, b: a == b, ">=": lambda a, b: a >= b, "<": lambda a, b: a < b}
    values = [(row[c], o, _value(v)) for c, o, v in where]
    return all(a is not None and told[o](a, b) for a, o, b in values)


def _value(value: Any) -> Any:  # noqa: ANN401 - a value of a question
    if isinstance(value, dict) and "day" in value:
        return date.fromisoformat(value["day"])
    return datetime.fromisoformat(f"{value['moment']}+00:00") if isinstance(value, dict) else value


@pytest.mark.parametrize("column", ["sequence", "lastModifiedTimestamp", "studyinstanceuid"])
def test_a_wrong_statistic_would_be_seen(
    asked: Reader, steps: dict[str, Step], tmp_path: Path, column: str
) -> None:
    """The log lies about the least and the greatest of a file: who skips by it misses rows.

    Whoever does not skip by moments does not miss any.
    """
    root = shutil.copytree(steps["deleted"].root, tmp_path / "lied")
    values = [v for v in steps["deleted"].ours["instance"][column].to_pylist() if v is not None]
    given = Question("modality", ((column, "=", _sent(max(values))),))
    url = str(root / "instance")
    assert asked.ask(url, given) == _answer(steps["deleted"].ours["instance"], given) != []
    _lie(root / "instance", column)
    seen = asked.ask(url, given) == []
    assert seen == (column != "lastModifiedTimestamp" or asked.name not in WITHOUT_MOMENTS)


def _sent(value: Any) -> Any:  # noqa: ANN401 - of a column
    return {"moment": f"{value:%Y-%m-%d %H:%M:%S.%f}"} if isinstance(value, datetime) else value


def _lie(table: Path, column: str) -> None:
    """In the log, no file has a value that a row has."""
    least = {
        "sequence": -1,
        "studyinstanceuid": "0",
        "lastModifiedTimestamp": "1999-01-01T00:00:00Z",
    }
    for commit in sorted((table / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
        for added in (action["add"] for action in actions if "add" in action):
            told = json.loads(added["stats"])
            told["minValues"][column] = told["maxValues"][column] = least[column]
            added["stats"] = json.dumps(told)
        commit.write_text("\n".join(map(json.dumps, actions)), encoding="utf-8")


# --- after many commits ---------------------------------------------------------------------------

COMMITS: Final = 500
WORN: Final = replace(
    INSTANCE,
    columns=tuple(
        column
        for column in INSTANCE.columns
        if column.name in {*INSTANCE.key, "sequence", "lastModifiedTimestamp", "modality"}
        or column.name in {"studydate_formatted", "metadata_string"}
    ),
)
"""`instance` with few columns, because each commit writes all of them."""
WITH_WORN: Final = tuple(WORN if table is INSTANCE else table for table in TABLES)


@pytest.fixture(scope="module")
def worn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, pa.Table]]:
    """A table after 500 mixed commits, then after a night: its place, and what it must hold."""
    root = tmp_path_factory.mktemp("worn")
    store, drawn = store_in(root / "mixed", WITH_WORN), random.Random(5)
    live: dict[str, Row] = {}
    for number in range(COMMITS):
        _change(store, drawn, live, number)
    held = pa.Table.from_pylist(list(live.values()), schema=WORN.arrow())
    assert store.open(WORN).version >= COMMITS
    rested = store_in(shutil.copytree(root / "mixed", root / "rested"), WITH_WORN)
    before = {file.path for file in data_files(rested.open(WORN))}
    age(rested, WORN, 40)
    told = maintenance.maintain(rested, WORN, Run("night", datetime.now(UTC))).totals
    after = {file.path for file in data_files(rested.open(WORN))}
    assert told["compacted"] > told["written"] > 0
    assert len(after) < len(before) / 10
    age(rested, WORN, 40)
    told = maintenance.maintain(rested, WORN, Run("night", datetime.now(UTC))).totals
    assert told["files_removed"] >= len(before - after)
    return {name: (root / name / "instance", held) for name in ("mixed", "rested")}


def _change(store: Store, drawn: random.Random, live: dict[str, Row], number: int) -> None:
    """Commit some creates, updates and deletes, and do the same to plain rows."""
    at, study = START + timedelta(minutes=number), number // 8

    def new(key: tuple[str, ...], sequence: int) -> Row:
        values = {
            "lastModifiedTimestamp": at,
            "studydate_formatted": (START + timedelta(days=int(key[1].rpartition(".")[2]))).date(),
            "modality": drawn.choice(("CT", "MR", None)),
            "metadata_string": json.dumps({"number": sequence}),
        }
        row = dict(zip(WORN.key, key, strict=True)) | {"sequence": sequence} | values
        return dict.fromkeys(WORN.names) | row

    # Mostly recent rows, so that a study lies in some files and not in all.
    changed = drawn.sample(list(live)[-60:] if number % 10 else list(live), min(3, len(live)))
    keys = [tuple(live[sop][name] for name in WORN.key) for sop in changed]
    updates = [new(key, number * 10 + i) for i, key in enumerate(keys[:2])]
    deletes = [
        dict(zip(WORN.key, key, strict=True)) | {"sequence": number * 10 + 5} for key in keys[2:]
    ]
    place = (PARTITIONS[study % 2], study_uid(study), series_uid(study, drawn.randrange(3)))
    inserts = [new((*place, f"{place[-1]}.{number}.{i}"), number * 10 + 6 + i) for i in range(4)]
    whole, short = WORN.arrow(), WORN.arrow([*WORN.key, "sequence"])
    difference = Difference(
        WORN,
        inserts=pa.Table.from_pylist(inserts, schema=whole),
        updates=pa.Table.from_pylist(updates, schema=whole),
        deletes=pa.Table.from_pylist(deletes, schema=short),
    )
    store.open(WORN).commit(difference, {"run_id": "mixed"})
    for row in deletes:
        del live[str(row["sopinstanceuid"])]
    live.update({str(row["sopinstanceuid"]): row for row in (*inserts, *updates)})


PRUNED: Final = {
    "all": Question("modality"),
    "one study": Question("seriesinstanceuid", (("studyinstanceuid", "=", study_uid(7)),)),
    "a range of sequences": Question(
        "studyinstanceuid", (("sequence", ">=", 1_200), ("sequence", "<", 1_900))
    ),
    "some days": Question(
        "studyinstanceuid",
        (
            ("studydate_formatted", ">=", {"day": f"{START + timedelta(days=9):%Y-%m-%d}"}),
            ("studydate_formatted", "<", {"day": f"{START + timedelta(days=14):%Y-%m-%d}"}),
        ),
    ),
    "the last minutes": Question(
        "partitionName",
        (
            (
                "lastModifiedTimestamp",
                ">=",
                {"moment": f"{START + timedelta(minutes=480):%Y-%m-%d %H:%M:%S.%f}"},
            ),
        ),
    ),
}


@pytest.mark.parametrize("state", ["mixed", "rested"])
def test_after_500_commits(
    reader: Reader, worn: dict[str, tuple[Path, pa.Table]], state: str
) -> None:
    """Counts, rows and pruned answers are those of plain rows, before and after a night."""
    url, held = worn[state]
    theirs = reader.rows(str(url))
    names = [*WORN.key, "sequence", "metadata_string", "modality"]
    assert sorted(map(str, theirs.select(names).to_pylist())) == sorted(
        map(str, held.select(names).to_pylist())
    )
    for question in () if reader.name in WITHOUT_QUESTIONS else PRUNED.values():
        expected = _answer(held, question)
        assert reader.ask(str(url), question) == expected != []


# --- where else, and where not --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clickhouse", "sail", "polars_kernel", "polars"])
def test_a_reader_has_our_rows_on_azurite(
    running_cloud: Cloud, steps: dict[str, Step], tmp_path: Path, name: str
) -> None:
    """Over https, with a token; ClickHouse with the account's key."""
    last, prefix = steps["gone_on"], uuid.uuid4().hex
    files = [path for path in last.root.rglob("*") if path.is_file()]
    places = [f"{CONTAINER}/{prefix}/{file.relative_to(last.root).as_posix()}" for file in files]
    running_cloud.azurite.put_all(dict(zip(places, (f.read_bytes() for f in files), strict=True)))
    root = prefix if name == "clickhouse" else f"{running_cloud.root().rpartition('/')[0]}/{prefix}"
    options, environment = _of_azurite(running_cloud, name)
    with readers.running(name, tmp_path, options, environment) as reader:
        _require_equal(reader, root, last)
        question = QUESTIONS["of one data partition"][1]
        expected = _answer(last.ours["instance"], question)
        assert reader.ask(f"{root}/instance", question) == expected


def _of_azurite(cloud: Cloud, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """What an engine has to be told of the storage: its options, and its environment."""
    url, bearer = cloud.azurite.url, azurite.token()
    if name == "clickhouse":
        parts = f"AccountName={ACCOUNT};AccountKey={azurite._KEY};BlobEndpoint={url};"
        text = f"DefaultEndpointsProtocol=https;{parts}"
        return {"connection_string": text, "container": CONTAINER}, cloud.trust()
    told = {"endpoint": url, "token": bearer, "account_name": ACCOUNT}
    if name == "sail":
        environment = {f"AZURE_STORAGE_{n.upper()}": value for n, value in told.items()}
        return {}, cloud.trust() | environment
    return {f"azure_storage_{n}": value for n, value in told.items()}, cloud.trust()


@pytest.mark.parametrize("name", READERS)
def test_a_space_in_a_local_path_stops_two_readers(
    engines: Callable[[str], Reader], steps: dict[str, Step], tmp_path: Path, name: str
) -> None:
    """As the page says: Polars and Sail look for `%20`. The others have the rows."""
    step, reader = steps["created"], engines(name)
    root = shutil.copytree(step.root, tmp_path / "two words")
    if name in {"polars", "sail"}:
        with pytest.raises(AssertionError, match=r"No such file|No commit files"):
            reader.rows(str(root / "study"))
    else:
        _require_equal(reader, str(root), step)


OLDER = """
import chdb, sys
query = "SELECT count() FROM deltaLakeLocal('" + sys.argv[1] + "') WHERE partitionName = '007'"
for kernel in "10":
    told = f"{query} SETTINGS allow_experimental_delta_kernel_rs = {kernel}"
    print(chdb.query(told, "CSV"), end="")
"""


def test_the_older_reader_of_clickhouse_loses_data_partitions(steps: dict[str, Step]) -> None:
    """As the page says; when this fails, ClickHouse has mended it."""
    root = steps["gone_on"].root
    done = subprocess.run(
        [readers.interpreter("clickhouse"), "-c", OLDER, str(root / "series")],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    held = steps["gone_on"].ours["series"]["partitionName"].to_pylist().count("007")
    assert done.stdout.split() == [str(held), "0"], done.stderr
    assert held


# --- what the page shows --------------------------------------------------------------------------


def _examples() -> list[tuple[str, str]]:
    """The engine that stands above each block of Python in the page, and the block."""
    page = (ROOT / "docs" / "use" / "readers.md").read_text(encoding="utf-8")
    return re.findall(
        r"^<!-- run: (\w+) -->\n```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize(("name", "example"), _examples())
def test_an_example_of_the_page_runs(
    steps: dict[str, Step], tmp_path: Path, name: str, example: str
) -> None:
    """In a folder with the tables, as it stands."""
    shutil.copytree(steps["gone_on"].root, tmp_path / "data" / "dicom")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    done = subprocess.run(
        [readers.interpreter(name), "example.py"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    overhear(done.stderr)
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr


def test_every_reader_has_an_example_and_its_version(engines: Callable[[str], Reader]) -> None:
    """The page names the versions that the lock has."""
    page = (ROOT / "docs" / "use" / "readers.md").read_text(encoding="utf-8")
    assert {name for name, _ in _examples()} >= set(READERS)
    assert [v for v in (engines(name).version() for name in READERS) if v not in page] == []


# --- what all of them rely on ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [*STEPS, TAKEN[1]])
def test_the_tables_are_plain_delta(steps: dict[str, Step], name: str) -> None:
    """After every step; Spark's own files of a table that was taken over are its affair."""
    found = {t.name: violations(steps[name].root / t.name) for t in TABLES}
    if name == TAKEN[1]:
        found = {table: [v for v in told if "snappy" not in v] for table, told in found.items()}
    assert {table: told for table, told in found.items() if told} == {}
