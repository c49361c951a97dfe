"""Columns that a user adds: what a file may say, what becomes of it, and what is refused."""

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from dicom_assets.errors import SettingsError
from dicom_assets.schema import INSTANCE, SERIES, STUDY, Column, Table, added
from dicom_assets.schema.attributes import path
from dicom_assets.tables.catalogue import TABLES

TIMESTAMP = pa.timestamp("us", "UTC")
NUMBER = {"instance": len(INSTANCE.columns), "series": len(SERIES.columns)} | {
    "study": len(STUDY.columns)
}
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of columns, and returns its path."""

    def written(text: str) -> str:
        file = tmp_path / "columns.toml"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return written


@pytest.fixture
def add(write: Write) -> Callable[..., Mapping[str, Table]]:
    """Returns the tables of a file with these columns, each given as its lines."""
    return lambda *columns: added.tables(write(entries(*columns)))


@pytest.fixture
def refusal(write: Write) -> Callable[[str], str]:
    """Returns why a file is refused, which names the file and has no cause that says more."""

    def refused(text: str) -> str:
        file = write(text)
        with pytest.raises(SettingsError) as caught:
            added.tables(file)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        message = str(caught.value)
        assert message.startswith(f"DICOM_COLUMNS_FILE {file}")
        return message.removeprefix(f"DICOM_COLUMNS_FILE {file}")

    return refused


Add = Callable[..., Mapping[str, Table]]
Refusal = Callable[[str], str]


def entries(*columns: str) -> str:
    """The text of a file with these columns."""
    return "\n".join(f"[[columns]]\n{column}\n" for column in columns)


def new(tables: Mapping[str, Table], name: str = "instance") -> list[Column]:
    """The columns that a file added to a table."""
    return list(tables[name].columns[NUMBER[name] :])


def told(columns: list[Column]) -> list[tuple[str, str, str | None, list[str]]]:
    """Name, type, form and paths of columns."""
    return [(c.name, str(c.type), c.form, [p.text for p in c.paths]) for c in columns]


def rolled(columns: list[Column]) -> list[tuple[str, str, str | None, tuple[str, ...]]]:
    """Name, type, aggregate and sources of columns."""
    return [(c.name, str(c.type), c.aggregate, c.sources) for c in columns]


# --- what a file may say --------------------------------------------------------------------------


def test_without_a_file_the_tables_are_everyones() -> None:
    """Each by its name."""
    assert added.tables(None, TABLES) == {table.name: table for table in TABLES}


@pytest.mark.parametrize("text", ["", "packs = []\ncolumns = []", "# nothing yet"])
def test_an_empty_file_adds_nothing(text: str, write: Write) -> None:
    """The tables are everyone's."""
    assert added.tables(write(text)) == added.tables()


def test_added_columns_come_last_and_other_tables_stay(add: Add) -> None:
    """Key, partition column and guard too."""
    tables = add('path = "ImageComments"', 'path = "KVP"')
    assert told(new(tables)) == [
        ("imagecomments", "string", "text", ["ImageComments"]),
        ("kvp", "double", "real", ["KVP"]),
    ]
    assert tables["instance"].columns[:85] == INSTANCE.columns
    assert tables["instance"].key == INSTANCE.key
    assert tables["instance"].partition_columns == ["partitionName"]
    assert tables["instance"].is_guarded
    assert all(column.added and column.compared for column in new(tables))
    others = [SERIES, STUDY]
    assert [tables[table.name] for table in others] == others


@pytest.mark.parametrize(
    ("given", "name", "type_", "form"),
    [
        ('path = "ImageComments"', "imagecomments", pa.string(), "text"),
        ('path = "KVP"', "kvp", pa.float64(), "real"),
        ('path = "XRayTubeCurrent"', "xraytubecurrent", pa.int32(), "whole"),
        ('path = "BitsAllocated"\nname = "bits"', "bits", pa.int32(), "whole"),
        ('path = "TotalPixelMatrixRows"', "totalpixelmatrixrows", pa.int64(), "whole"),
        ('path = "SmallestImagePixelValue"', "smallestimagepixelvalue", pa.int32(), "whole"),
        ('path = "CTDIvol"', "ctdivol", pa.float64(), "real"),
        ('path = "OtherPatientNames"', "otherpatientnames", pa.string(), "name"),
        ('path = "AcquisitionDate"', "acquisitiondate", pa.string(), "text"),
        ('path = "FrameIncrementPointer"', "frameincrementpointer", pa.string(), "text"),
        ('path = "ImagePositionPatient"', "imagepositionpatient", pa.string(), "number_text"),
        ('path = "ImagePositionPatient[2]"', "imagepositionpatient_2", pa.float64(), "real"),
        ('path = "ImageType[0]"', "imagetype_0", pa.string(), "text"),
        ('path = "00180060"', "kvp", pa.float64(), "real"),
        ('path = "(0018,0060)"', "kvp", pa.float64(), "real"),
        ('path = "KVP"\ntype = "string"', "kvp", pa.string(), "number_text"),
        ('path = "Rows"\nname = "r"\ntype = "int64"', "r", pa.int64(), "whole"),
        ('path = "Rows"\nname = "r"\ntype = "float64"', "r", pa.float64(), "real"),
        ('path = "AcquisitionDate"\ntype = "date32"', "acquisitiondate", pa.date32(), "day"),
        ('path = "OtherPatientNames"\ngroup = "phonetic"', "otherpatientnames_phonetic",
         pa.string(), "phonetic"),
        ('path = "PatientName"\ngroup = "ideographic"\nname = "kanji"', "kanji",
         pa.string(), "ideographic"),
        ('path = "KVP"\nname = "TubeVoltage"', "tubevoltage", pa.float64(), "real"),
        ('path = "KVP"\nlevel = "instance"', "kvp", pa.float64(), "real"),
    ],
)  # fmt: skip
def test_a_column_of_instance(
    given: str, name: str, type_: pa.DataType, form: str, add: Add
) -> None:
    """Its name is the keyword's in small letters, its type the VR's, unless others are given."""
    [column] = new(add(given))
    assert (column.name, column.type, column.form) == (name, type_, form)
    assert column.meaning


@pytest.mark.parametrize(
    ("path", "name", "type_"),
    [
        ("RequestAttributesSequence[0].RequestedProcedureID",
         "requestattributessequence_requestedprocedureid", "string"),
        ("SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness",
         "sharedfunctionalgroupssequence_pixelmeasuressequence_slicethickness", "double"),
        ("SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[1]",
         "sharedfunctionalgroupssequence_pixelmeasuressequence_pixelspacing_1", "double"),
        ("RadiopharmaceuticalInformationSequence[*].RadionuclideTotalDose",
         "radiopharmaceuticalinformationsequence_radionuclidetotaldose", "string"),
        ("RadiopharmaceuticalInformationSequence.RadionuclideTotalDose",
         "radiopharmaceuticalinformationsequence_radionuclidetotaldose", "string"),
    ],
)  # fmt: skip
def test_a_path_into_sequences(path: str, name: str, type_: str, add: Add) -> None:
    """Its name has all keywords. Values of all items are text, because there may be several."""
    [column] = new(add(f'path = "{path}"'))
    assert (column.name, str(column.type)) == (name, type_)
    assert [p.text for p in column.paths] == [path]


def test_a_private_attribute(add: Add) -> None:
    """It is addressed by its creator, and is text unless its VR is given."""
    tables = add(
        """path = '(0019,"ACME 1.0",0c)'\nname = "bvalue"\nvr = "IS" """,
        """path = '(0019,"ACME 1.0",0D)[1]'\nname = "second" """,
        """path = '(0021,"ACME 1.0",01)[0].CodeMeaning'\nname = "meaning" """,
        """path = '(0019,"ACME 1.0",0E)'\nname = "greatestBvalue"\nvr = "DS"
           level = "series"\naggregate = "max" """,
    )
    columns = new(tables)
    tags = [c.attribute.tag for c in columns if c.attribute]
    facts = [(c.name, str(c.type), tag, c.keyword) for c, tag in zip(columns, tags, strict=True)]
    assert facts == [
        ("bvalue", "int32", "0019xx0C", None),
        ("second", "string", "0019xx0D", None),
        ("meaning", "string", "00080104", "CodeMeaning"),
        ("greatestbvalue", "double", "0019xx0E", None),
    ]
    assert [c.paths[0].steps[0].creator for c in columns] == ["ACME 1.0"] * 4
    assert rolled(new(tables, "series")) == [
        ("greatestBvalue", "double", "max", ("greatestbvalue",))
    ]


def test_a_moment_takes_the_offset_of_the_instance(add: Add) -> None:
    """Text by default, as it is stored."""
    path = 'path = "StartAcquisitionDateTime"'
    [text, moment] = new(add(path, f'{path}\ntype = "timestamp"\nname = "started_timestamp"'))
    assert (text.name, text.type, text.form) == ("startacquisitiondatetime", pa.string(), "text")
    assert (moment.type, moment.form) == (TIMESTAMP, "datetime")
    assert [p.text for p in moment.paths] == ["StartAcquisitionDateTime", "TimezoneOffsetFromUTC"]


def test_what_dicom_says_of_it_is_in_the_fields_metadata(add: Add) -> None:
    """PS3.15's class is not known of what only the user asks for, but that of private ones."""
    kvp, private = new(add('path = "KVP"', """path = '(0019,"A",01)'\nname = "p" """))
    assert kvp.field().metadata == {
        b"dicom.keyword": b"KVP",
        b"dicom.tag": b"00180060",
        b"dicom.vr": b"DS",
        b"dicom.vm": b"1",
        b"dicom.ps315": b"?",
        b"dicom.path": b"KVP",
    }
    metadata = private.field().metadata or {}
    assert b"dicom.keyword" not in metadata
    assert metadata[b"dicom.path"] == b'(0019,"A",01)'
    assert metadata[b"dicom.ps315"] == b"X"


# --- series and study -----------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["series", "study"])
@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("", ("exposure", "int32", "latest")),
        ('aggregate = "latest"', ("exposure", "int32", "latest")),
        ('aggregate = "same"', ("exposure", "int32", "same")),
        ('aggregate = "min"', ("exposure", "int32", "min")),
        ('aggregate = "max"\nname = "maxExposure"', ("maxExposure", "int32", "max")),
        ('aggregate = "sum"', ("exposure", "int64", "sum")),
        ('aggregate = "mean"', ("exposure", "double", "mean")),
        ('aggregate = "count_distinct"', ("exposure", "int64", "count_distinct")),
        ('aggregate = "distinct"\ntype = "string"', ("exposure", "string", "distinct")),
        ('aggregate = "sum"\ntype = "float64"', ("exposure", "double", "sum")),
    ],
)
def test_a_column_of_series_or_study(
    level: str, given: str, made: tuple[str, str, str], add: Add
) -> None:
    """It reads a column of `instance`, which is added with it under the attribute's own name."""
    tables = add(f'path = "Exposure"\nlevel = "{level}"\n{given}')
    assert [c.name for c in new(tables)] == ["exposure"]
    assert rolled(new(tables, level)) == [(*made, ("exposure",))]
    assert all(c.added and c.compared and c.meaning for c in new(tables, level))
    assert new(tables, "study" if level == "series" else "series") == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("ImagePositionPatient[2]", "imagePositionPatient_2"),
        ("RequestAttributesSequence[0].RequestedProcedureID",
         "requestAttributesSequence_requestedProcedureId"),
        ("KVP", "kvp"),
    ],
)  # fmt: skip
def test_a_name_in_series_is_in_camel_case(path: str, name: str, add: Add) -> None:
    """As the template's are there."""
    tables = add(f'path = "{path}"\nlevel = "series"')
    assert [c.name for c in new(tables, "series")] == [name]
    assert [c.name for c in new(tables)] == [name.lower()]


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ('path = "ImageComments"\nlevel = "study"', "imagecomments"),
        ('path = "ViewPosition"\nlevel = "study"', "viewposition"),
        ('path = "PixelSpacing[1]"\nlevel = "study"', "pixelspacing_column"),
        ('path = "Rows"\nlevel = "study"\nname = "maxRows"\naggregate = "max"', "rows"),
        ('path = "StudyDate"\ntype = "date32"\nlevel = "study"\nname = "d"', "studydate_formatted"),
        ('path = "00280010"\nlevel = "study"\nname = "maxRows"\naggregate = "max"', "rows"),
    ],
)
def test_a_rollup_reads_a_column_that_is_there(given: str, source: str, add: Add) -> None:
    """A column of the same values is reused, however its path is written."""
    tables = add(given)
    [column] = new(tables, "study")
    assert column.sources == (source,)
    assert [c.name for c in new(tables)] == ([source] if source == "imagecomments" else [])


def test_several_rollups_read_one_column(add: Add) -> None:
    """Whichever was asked for first."""
    kvp = 'path = "KVP"\nlevel = "series"'
    tables = add(
        f'{kvp}\naggregate = "min"\nname = "leastKvp"',
        f'{kvp}\naggregate = "max"\nname = "greatestKvp"',
        'path = "KVP"',
        'path = "(0018,0060)"\nlevel = "study"\naggregate = "count_distinct"\nname = "kvpCount"',
    )
    assert [c.name for c in new(tables)] == ["kvp"]
    assert [(c.name, c.sources) for c in new(tables, "series")] == [
        ("leastKvp", ("kvp",)),
        ("greatestKvp", ("kvp",)),
    ]
    assert [(c.name, c.sources) for c in new(tables, "study")] == [("kvpCount", ("kvp",))]


def test_a_rollup_whose_attributes_name_is_taken_has_its_own_in_instance(add: Add) -> None:
    """`rows` is a number there, and this is text."""
    tables = add('path = "Rows"\ntype = "string"\nlevel = "study"\naggregate = "distinct"\n'
                 'name = "allRows"')  # fmt: skip
    assert told(new(tables)) == [("allrows", "string", "number_text", ["Rows"])]
    assert rolled(new(tables, "study")) == [("allRows", "string", "distinct", ("allrows",))]


def test_what_is_there_is_not_added_again(add: Add) -> None:
    """It may be in the catalogue, or the file names it twice."""
    everyones = ('path = "Rows"', 'path = "PatientBirthDate"\ntype = "date32"')
    tables = add(*everyones, 'path = "KVP"', 'path = "KVP"', 'path = "00180060"')
    assert [c.name for c in new(tables)] == ["kvp"]


def test_a_name_of_its_own_makes_a_second_column(add: Add) -> None:
    """The type is as requested."""
    assert told(new(add('path = "Rows"\nname = "height"'))) == [
        ("height", "int32", "whole", ["Rows"])
    ]


# --- packs ----------------------------------------------------------------------------------------


def test_the_packs_are_these() -> None:
    """A line each in docs/use/own-columns.md."""
    assert list(added.packs()) == [
        "ct", "dose", "geometry", "mg", "mr", "names", "patient", "pet", "sm", "sr", "trial",
    ]  # fmt: skip


PACKS = {
    "ct": "kvp xraytubecurrent exposure exposuretime ctdivol convolutionkernel "
    "reconstructiondiameter spiralpitchfactor gantrydetectortilt scanoptions",
    "dose": "kvp xraytubecurrent exposuretime exposure exposureinuas ctdivol "
    "imageandfluoroscopyareadoseproduct entrancedoseinmgy organdose exposureindex "
    "targetexposureindex deviationindex distancesourcetodetector distancesourcetopatient",
    "geometry": "imagepositionpatient imageorientationpatient slicelocation spacingbetweenslices",
    "mg": "bodypartthickness compressionforce imagerpixelspacing",
    "mr": "magneticfieldstrength echotime repetitiontime inversiontime flipangle echotrainlength "
    "scanningsequence sequencevariant mracquisitiontype sequencename receivecoilname "
    "diffusionbvalue imagednucleus",
    "names": "patientname_ideographic referringphysicianname_ideographic operatorsname_ideographic "
    "performingphysicianname_ideographic patientname_phonetic referringphysicianname_phonetic "
    "operatorsname_phonetic performingphysicianname_phonetic",
    "patient": "patientsize patientweight ethnicgroup otherpatientids",
    "pet": "units seriestype radiopharmaceutical radionuclidetotaldose",
    "sm": "totalpixelmatrixcolumns totalpixelmatrixrows containeridentifier",
    "sr": "completionflag verificationflag conceptname",
    "trial": "clinicaltrialprotocolid clinicaltrialsubjectid deidentificationmethod",
}


@pytest.mark.parametrize("pack", added.packs())
def test_a_pack_adds_its_columns(pack: str, write: Write) -> None:
    """Each of an attribute of the dictionary, which its name tells."""
    columns = new(added.tables(write(f'packs = ["{pack}"]')))
    assert [c.name for c in columns] == PACKS[pack].split()
    for column in columns:
        assert column.keyword
        assert keyword_for_tag(tag_for_keyword(column.keyword) or 0) == column.keyword


def test_packs_come_before_columns_and_may_share_attributes(write: Write) -> None:
    """A column of the file reads one of a pack. A column of two packs is added once."""
    file = write('packs = ["dose", "ct"]\n' + entries('path = "KVP"\nlevel = "series"'))
    names = [c.name for c in new(added.tables(file))]
    assert len(names) == len(set(names)) == 14 + 5
    assert rolled(new(added.tables(file), "series")) == [("kvp", "double", "latest", ("kvp",))]


def test_all_packs_go_together(write: Write) -> None:
    """No two of them want one name for different things."""
    columns = new(added.tables(write(f"packs = {list(added.packs())}")))
    assert {c.name for c in columns} == {n for names in PACKS.values() for n in names.split()}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[columns]\npath = 1", ["is not TOML: ", "line 1"]),
        ("[columns]\npath = 'KVP'", ["$.columns", "`[[columns]]`"]),
        ("column = []", ["unknown field `column`", "`[[columns]]`"]),
        ("packs = 'ct'", ["$.packs", 'packs = ["ct", …]']),
        ("columns = ['KVP']", ["$.columns[0]", "`[[columns]]`"]),
        ('packs = ["ct", "cr"]', ["no pack 'cr'", "ct, dose, geometry, mg, mr, names, patient"]),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, told: list[str], refusal: Refusal) -> None:
    """With the line of TOML, or with what a file holds."""
    message = refusal(text)
    assert [part for part in told if part not in message] == []


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, refusal: Refusal) -> None:
    """Absent, a folder, or not UTF-8. The mark of Windows' editors is none of its text."""
    with pytest.raises(
        SettingsError, match=r"absent.toml cannot be read \(FileNotFoundError\): give"
    ):
        added.tables(str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match="cannot be read"):
        added.tables(str(tmp_path))
    latin = tmp_path / "latin.toml"
    latin.write_bytes("# größe\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"latin.toml is not UTF-8: save it as UTF-8"):
        added.tables(str(latin))
    marked = tmp_path / "marked.toml"
    marked.write_bytes(entries('path = "KVP"').encode("utf-8-sig"))
    assert [c.name for c in new(added.tables(str(marked)))] == ["kvp"]


ACME = """path = '(0019,"ACME",0C)'"""
KEYS = ["`path`", "`name`", "`vr`", "`level` (instance, series, study)", "`aggregate` (latest,"]
KEYS += ["`type` (string, int32, int64, float64, date32, timestamp)", "`group` (ideographic,"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('pat = "KVP"', KEYS),
        ('path = "KVP"\nkeyword = "KVP"', ["unknown field `keyword`", *KEYS]),
        ('name = "kvp"', ["missing required field `path`", *KEYS]),
        ("path = 5", ["$.path", *KEYS]),
        ('path = "KVP"\nlevel = "patient"', ["'patient'", "$.level", *KEYS]),
        ('path = "KVP"\nlevel = "series"\naggregate = "median"', ["'median'", *KEYS]),
        ('path = "KVP"\ntype = "double"', ["'double'", *KEYS]),
        ('path = "PatientName"\ngroup = "alphabetic"', ["'alphabetic'", *KEYS]),
    ],
)
def test_what_is_no_column_is_refused(given: str, told: list[str], refusal: Refusal) -> None:
    """With the keys that a column has, and what each may be."""
    message = refusal(entries('path = "Exposure"', given))
    assert message.startswith(", column 2")
    assert [part for part in told if part not in message] == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        # No attribute.
        ('path = "ImageComment"', "'ImageComment' is not a DICOM keyword (PS3.6); ImageC"),
        ('path = "imagecomments"', "(PS3.6); ImageComments is one"),
        ('path = "Qqqqqqqq"', "'Qqqqqqqq' is not a DICOM keyword (PS3.6)"),
        ('path = "00189999"', "00189999 is not a DICOM tag"),
        ('path = ""', "steps are keywords, 8-digit tags or"),
        ('path = "KVP/Rows"', "from character 3 on"),
        ('path = "KVP[-1]"', "from character 3 on"),
        ('path = "RequestAttributesSequence[0]."', "steps are keywords"),
        # Private attributes.
        ('path = "00191001"\nname = "a"', 'Name its creator: (0019,"CREATOR",01)'),
        ('path = "(0019,100c)"\nname = "a"', 'Name its creator: (0019,"CREATOR",0C)'),
        (ACME, "has no keyword as a name: give it a `name`"),
        (f"""{ACME}\nlevel = "study" """, "give it a `name`"),
        ("""path = '(0021,"A",01)[0].Rows'""", "give it a `name`"),
        (f"""{ACME}\nname = "a"\nvr = "XX" """, "has the VR 'XX': take one of AE"),
        (f"""{ACME}\nname = "a"\nvr = "OB" """, "which the service leaves out of"),
        (f"""{ACME}\nname = "a"\nvr = "UN" """, "which the service leaves out of"),
        (f"""{ACME}\nname = "a"\nvr = "SQ" """, "name an attribute inside it"),
        ("""path = '(0018,"ACME",0C)'\nname = "a" """, "is not a path"),
        ('path = "KVP"\nvr = "DS"', "has the VR DS (PS3.6): leave out the `vr`"),
        # Nothing that headers hold.
        ('path = "PixelData"', "has the VR OB, which the service leaves out of headers"),
        ('path = "FloatPixelData"', "has the VR OF"),
        ('path = "TransferSyntaxUID"', "belongs to a file or a message, not to a header"),
        ('path = "ProcedureCodeSequence"', "is a sequence: name an attribute inside it"),
        ('path = "ProcedureCodeSequence[0]"', "is a sequence"),
        ('path = "PatientName.Rows"', "PatientName is not a sequence, so nothing lies inside it"),
        ('path = "Rows[0].Columns"', "Rows is not a sequence"),
        # Types and groups.
        ('path = "ImageComments"\ntype = "int32"', "cannot be int32: its `type` may be string"),
        ('path = "KVP"\ntype = "int32"', "its `type` may be string or float64"),
        ('path = "StudyDate"\ntype = "timestamp"', "its `type` may be string or date32"),
        ('path = "StudyTime"\ntype = "timestamp"', "VR TM cannot be timestamp: its `type` may be"),
        ('path = "AcquisitionDateTime"\ntype = "date32"', "may be string or timestamp"),
        ('path = "Rows"\ntype = "date32"', "may be string or int32 or int64 or float64"),
        ('path = "SelectorUVValue"\ntype = "int64"', "VR UV cannot be int64"),
        ('path = "PatientID"\ngroup = "phonetic"', "for names of persons (VR PN), not for LO"),
        # Aggregates.
        ('path = "KVP"\naggregate = "max"', 'give the column a `level`, "series" or "study"'),
        ('path = "ImageComments"\nlevel = "study"\naggregate = "sum"', "sum is for numbers"),
        ('path = "StudyDate"\ntype = "date32"\nlevel = "study"\naggregate = "mean"',
         "mean is for numbers, and this is date32[day]"),
        ('path = "KVP"\nlevel = "study"\naggregate = "distinct"', 'add `type = "string"`, or take'),
        # Names.
        ('path = "KVP"\nname = "tube voltage"', "'tube voltage' is not a name for a column: take"),
        ('path = "KVP"\nname = ""', "'' is not a name for a column"),
        ('path = "KVP"\nname = "_kvp"', "a letter first"),
        ('path = "KVP"\nname = "kVp²"', "letters of A to Z"),
        (f'path = "KVP"\nname = "{"k" * 129}"', "128 at most"),
        ('path = "KVP"\nname = "rows"', "another column rows (int32, Rows): give this"),
        ('path = "KVP"\nname = "PartitionName"', "another column partitionName (string)"),
        ('path = "KVP"\nname = "Metadata_String"', "another column metadata_string"),
        ('path = "Rows"\ntype = "string"', "another column rows (int32, Rows)"),
        ('path = "Rows"\nlevel = "series"\naggregate = "max"',
         "series has another column rows (int32, instance.rows, same)"),
        ('path = "KVP"\nlevel = "study"\nname = "INSTANCECOUNT"', "another column instanceCount"),
        ('path = "ReferencedImageSequence[1].ReferencedSOPInstanceUID"',
         "another column referencedimagesequence_referencedsopinstanceuid"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_column_is_refused(given: str, told: str, refusal: Refusal) -> None:
    """With the column's number and path, and what to do."""
    other = 'path = "ReferencedImageSequence[0].ReferencedSOPInstanceUID"'
    message = refusal(entries(other, given))
    assert message.startswith(", column 2 (")
    assert told in message


def test_a_name_that_differs_in_case_only_is_taken(refusal: Refusal) -> None:
    """Delta compares names without case."""
    kvp = 'path = "KVP"\nlevel = "series"\nname = '
    message = refusal(entries(f'{kvp}"tubeVoltage"', f'{kvp}"TubeVoltage"'))
    assert message.startswith(", column 2 (KVP): the table series has another column tubeVoltage")


def test_a_pack_and_a_column_that_disagree_are_refused(write: Write, refusal: Refusal) -> None:
    """The pack has it as a number."""
    message = refusal('packs = ["ct"]\n' + entries('path = "KVP"\ntype = "string"'))
    assert message.startswith(", column 1 (KVP): the table instance has another column kvp (double")


def test_the_file_is_read_once(write: Write) -> None:
    """All of a process has the same columns, however long it lives."""
    file = write(entries('path = "KVP"'))
    first = added.tables(file)
    assert added.tables(write(entries('path = "Exposure"'))) is first


# --- the page of the documentation ----------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "use" / "own-columns.md").read_text(encoding="utf-8")
TOML = re.compile(r"^ *```toml\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
[FIRST, EXAMPLES] = [textwrap.dedent(block) for block in TOML.findall(PAGE)]


def test_the_first_file_of_the_page_gives_what_the_page_says(write: Write) -> None:
    """The pack, and one column."""
    columns = new(added.tables(write(FIRST)))
    assert [c.name for c in columns] == [*PACKS["ct"].split(), "imagecomments"]


def test_the_examples_of_the_page_give_what_the_page_says(write: Write) -> None:
    """All in one file."""
    tables = added.tables(write(EXAMPLES))
    assert [(c.name, str(c.type)) for c in new(tables)] == [
        ("kvp", "double"),
        ("requestedprocedureid", "string"),
        ("ge_bvalue", "int32"),
        ("acquisitiondate_formatted", "date32[day]"),
        ("frame_timestamp", "timestamp[us, tz=UTC]"),
        ("patientname_ideographic", "string"),
    ]
    assert rolled(new(tables, "series")) == [
        ("leastKvp", "double", "min", ("kvp",)),
        ("greatestKvp", "double", "max", ("kvp",)),
    ]
    assert rolled(new(tables, "study")) == [
        ("requestedProcedureIds", "string", "distinct", ("requestedprocedureid",))
    ]


@pytest.mark.parametrize("pack", added.packs())
def test_the_page_lists_what_a_pack_has(pack: str, write: Write) -> None:
    """Every attribute, by its keyword."""
    [line] = re.findall(rf"^\| `{pack}` \|.*$", PAGE, re.MULTILINE)
    for column in new(added.tables(write(f'packs = ["{pack}"]'))):
        assert column.paths[0].steps[-1].attribute.keyword in line or "meaning of" in line
        assert column.paths[0].steps[0].attribute.keyword in line or pack == "pet"


@pytest.mark.parametrize(
    ("way", "steps"),
    re.findall(r"^\| `([A-Z(0][^`]*)`[^|]*\| ([^|]+) \|$", PAGE, re.MULTILINE),
)
def test_a_path_that_the_page_shows_is_one(way: str, steps: str) -> None:
    """In the table of paths, and nowhere else, a row begins so."""
    assert steps
    assert path(way).text == way


def test_the_page_tells_every_key_and_its_choices() -> None:
    """The help in messages has them, too."""
    for struct in (added._Entry, added._File):
        assert all(f"`{name}`" in PAGE for name in struct.__struct_fields__)
    choices = (added._Level, added._Rolled, added._TypeName, added._Group)
    for choice in (one for several in choices for one in get_args(several)):
        assert f"`{choice}`" in PAGE or f'`"{choice}"`' in PAGE
