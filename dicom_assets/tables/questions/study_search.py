"""Studies found by a person's words: an accession number, a patient ID, a name, a date or a range.

`*` stands for any text. Case, accents, `^` and the number of spaces do not matter. A name is found
by its first components too. The values of patients are for the terminal of the person who asked.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import pyarrow as pa

from dicom_assets.schema import STUDY
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.delta.table_errors import raise_table_errors

SHOWN: Final = (
    "studyDate",
    "modalitiesInStudy",
    "seriesCount",
    "instanceCount",
    "accessionNumber",
    "studyInstanceUid",
)
PATIENT: Final = ("patientName", "patientBirthDate", "patientId")
_DAY: Final = r"(\d{4})-?(\d\d)-?(\d\d)"
_DAYS: Final = re.compile(rf"{_DAY}(?:(?:\.\.|-){_DAY})?", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """The words sought: a text without its dates, and the first and the last day."""

    text: str
    first: date | None = None
    last: date | None = None


def wanted_of(words: str) -> Wanted:
    """Return the words of a person as a text and days; a number that is no day is text."""
    texts, first, last = [], None, None
    for word in words.split():
        match = _DAYS.fullmatch(word)
        try:
            groups = [int(part) for part in (match.groups() if match else ()) if part]
            days = [date(*groups[place : place + 3]) for place in range(0, len(groups), 3)]
        except ValueError:
            days = []
        if days:
            first, last = min(days), max(days)
        else:
            texts.append(word)
    return Wanted(" ".join(texts), first, last)


def studies_of(store: Store, words: str) -> pa.Table:
    """Return the studies that all words fit, the newest first, in the columns SHOWN and PATIENT."""
    study, names = store.open(STUDY), [*SHOWN, *PATIENT]
    none = STUDY.arrow(names).empty_table()
    if study.delta is None or not words.strip():
        return none
    wanted = wanted_of(words)
    condition = _on_days(wanted.first, wanted.last) if wanted.first and wanted.last else None
    if wanted.text:
        text = _with_text(wanted.text)
        # A number of eight digits may be a day, and an accession number.
        condition = text if condition is None else text & condition
    elif re.fullmatch(r"\d{8}", words.strip(), re.ASCII):
        condition |= _with_text(words.strip())
    with raise_table_errors(study.table, study.url):
        found = study.delta.to_pyarrow_dataset().to_table(columns=names, filter=condition)
    return found.sort_by([("studyDate", "descending"), ("studyInstanceUid", "ascending")])


def _on_days(first: date, last: date) -> Any:  # noqa: ANN401 - an expression of Arrow's
    day = pc.field("studyDate")
    return (day >= pa.scalar(first)) & (day <= pa.scalar(last))


def _with_text(text: str) -> Any:  # noqa: ANN401 - an expression of Arrow's
    pattern = _pattern(text)
    whole, name = rf"^\s*{pattern}\s*$", rf"(^|=)\s*{pattern}([\^\s=]|$)"
    exact = pc.match_substring_regex(pc.field("accessionNumber"), whole, ignore_case=True)
    exact |= pc.match_substring_regex(pc.field("patientId"), whole, ignore_case=True)
    # Accents are marks of their own in the form NFKD.
    bare = pc.utf8_normalize(pc.field("patientName"), "NFKD")
    bare = pc.replace_substring_regex(bare, r"\p{M}+", "")
    named = pc.match_substring_regex(bare, name, ignore_case=True)
    # By Kleene's logic null or true is true, and the filter leaves out null.
    return exact | named


def _pattern(text: str) -> str:
    """Return the regular expression of a text, in the dialect RE2."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    parts = re.split(r"([*]|[\^\s]+)", bare.strip(" ^"))
    special = {"*": ".*"}
    return "".join(
        special.get(part) or (r"[\^\s]+" if re.fullmatch(r"[\^\s]+", part) else re.escape(part))
        for part in parts
        if part
    )
