"""Files whose columns were read off a dump by hand: no code of ours wrote what is expected."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from dicom_assets.header.extraction import extraction
from dicom_assets.schema import INSTANCE, Table, added
from dicom_assets_tests.header.files import DATA, files

GOLDEN: Final[dict[str, dict[str, Any]]] = json.loads(
    (DATA / "golden.json").read_text(encoding="utf-8")
)
COLUMNS: Final = """
packs = ["names"]

[[columns]]
path = '(0009,"ACME 1.0",01)'
name = "acme"
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The table with the other groups of names, and a private attribute."""
    file = tmp_path_factory.mktemp("columns") / "columns.toml"
    file.write_text(COLUMNS, encoding="utf-8")
    return added.tables(str(file))["instance"]


def header_of(name: str) -> bytes:
    """The header of a file: of a DICOM file as a service serves it, else the file itself."""
    if Path(name).suffix == ".json":
        return (DATA / name).read_bytes()
    [header] = [file.header for file in files() if file.name == name]
    return header


def shown(value: object) -> object:
    """A value in the form of JSON."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


@pytest.mark.parametrize("name", GOLDEN)
def test_a_file_has_the_columns_that_were_read_off_it(name: str, instance: Table) -> None:
    """Each column that is not named there is null, and every value parses."""
    made = extraction(instance)
    header = made.decode(header_of(name))
    assert header is not None
    found, unparsable = made.columns([header])
    assert {column: shown(value) for column, [value] in found.items() if value is not None} == (
        GOLDEN[name]
    )
    assert unparsable == {}


def test_every_column_has_a_value_in_some_golden_file() -> None:
    """Else nothing would say that it is read at all."""
    named = {column for columns in GOLDEN.values() for column in columns}
    lacking = [c.name for c in INSTANCE.columns if c.paths and c.name not in named]
    assert lacking == []


def test_the_golden_files_are_of_many_kinds() -> None:
    """Modalities and character sets that do not share their pitfalls."""
    values = [{columns.get(name) for columns in GOLDEN.values()} for name in ("modality", CHARSET)]
    assert values[0] == {"CT", "MR", "OT", "CR", "US", "RTDOSE", "ECG", "SR", "NM", "SM", "MG"}
    assert len(values[1]) == 6


CHARSET: Final = "specificcharacterset"
