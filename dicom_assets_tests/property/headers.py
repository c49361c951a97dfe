"""Random headers: usual values, odd ones, and what is of no form at all.

Every attribute that a column shows has a pool of values of its VR (PS3.5 6.2). Most are right, so
that what is made of several has a value too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dicom_assets_tests.support.canary import MARK

if TYPE_CHECKING:
    from random import Random

    from dicom_assets_tests.property.expected import Header
    from dicom_assets_tests.property.oracle import Key


class Pool(NamedTuple):
    """What an attribute may hold: a VR, usual and odd values, and how many belong there."""

    vr: str
    usual: tuple[Any, ...]
    odd: tuple[Any, ...]
    number: int = 1


def item(**attributes: str) -> Header:
    """An item of a code sequence: `_00080100="T-D3000"` is its CodeValue."""
    return {name[1:]: {"vr": "SH", "Value": [value]} for name, value in attributes.items()}


TEXTS = (f"{MARK}HEAD", f"{MARK}Kopf ", f" {MARK}lead", f"{MARK}çé 漢字 🩻", f"it's {MARK}")
ODD_TEXTS = ("a\0", "", "  ", 'say "so"', "x|y", "null", 7, 2.0)
POOLS = {
    "AS": Pool("AS", ("045Y", "006M", "010W", "003D "), ("000Y", "45Y", "045y", "4500D", "")),
    "CS": Pool("CS", ("CT", "MR", "CT", "US "), ("", "Ct", "\0")),
    "DA": Pool(
        "DA",
        ("20260131", "20240229", "19991231", "2024.02.29"),
        (
            *("20230229", "20260131 ", " 20260131", "00000000", "2023-02-03", "2026", "2024.0229"),
            *("20260131-20260201", "00010101", "15821014", "18991231", "99991231", ""),
        ),
    ),
    "DA birth": Pool(
        "DA", ("19700101", "20240229", "1999.12.31"), ("20300101", "1970", "", "00010101")
    ),
    "DS": Pool(
        "DS",
        (2.5, "2.5", " 1.25 ", 1, "+.5", "1e-1"),
        (
            *("NaN", "Infinity", "-inf", "1e999", "1,5", "1_0", "٣", "0x1", "", ".", "e5"),
            *(0, -0.75, 1e300),
        ),
    ),
    "DS pair": Pool("DS", (0.5, "0.7", 1), ("NaN", "", "x", " 2. ", "3\\4"), number=2),
    "DT": Pool(
        "DT",
        ("20260131101530.123456", "20260131101530.5+0100", "202601312359-0500", "2026013110"),
        (
            *("20260131", "2026", "20260131+0100", "20260230101530", "20260131250000+0000"),
            *("20260131101530.1234567", "20260131101530+1500", "2026013110.5", "20260131 101530"),
            *("18991231235959+0000", "19000101000000+0001", "15821014000000+0000"),
            *("20260131101530-0000", "202601311", "00010101000000+1400", " 202601311015 ", ""),
        ),
    ),
    "IS": Pool(
        "IS",
        (3, 0, -7, 41, "12", " 12 ", "+5", 3.0, "5 "),
        (
            *("five", "", "1_0", "٣", "0x1", "--1", "1 2", "2147483648", "3.0", "1e2"),
            *(2**31, -(2**31), 10**25, 2.5),
        ),
    ),
    "LO": Pool("LO", TEXTS, ODD_TEXTS),
    "PN": Pool(
        "PN",
        (
            {"Alphabetic": f"{MARK}Doe^Jane"},
            {"Alphabetic": f"{MARK}Äö^ß ", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
        ),
        (
            *({"Ideographic": "山田^太郎"}, {"Alphabetic": ""}, {"Alphabetic": None}, {}),
            "Doe^John ",
            *({"Alphabetic": f"{MARK}Doe^Jane^^^"}, {"Alphabetic": "^^^^"}, "=山田^太郎", "==x"),
            {"Alphabetic": f"{MARK}Yamada^Taro=山田^太郎=やまだ^たろう"},
            {"Alphabetic": "^ ^=split^ ", "Ideographic": "own"},
        ),
    ),
    "SH": Pool("SH", ("A1", "B2", "x "), ("", " A1", 7)),
    "SH offset": Pool(
        "SH",
        ("+0000", "+0100", "-0500", "+0530", "-0930 "),
        ("+1400", "-1200", "+1430", "-1230", "-0000", "+01:00", "0100", "Z", "+0160", "+01", ""),
    ),
    "SQ": Pool(
        "SQ",
        (
            item(_00080100="P5-09051", _00080102="SRT", _00080104="Head "),
            item(_00080100="T-D3000 ", _00080102="SRT ", _00080104="Chest"),
            item(_00080102="LN", _00080119="24725-4", _00080104="CT Head"),
            item(_00080120="urn:lex:us:1", _00080104="Law"),
        ),
        (
            {},
            item(_00080104="no code"),
            item(_00080102="SRT"),
            item(_00080100=" ", _00080119="long", _00080120="urn:x", _00080102="A"),
            item(_00080100="lone", _00080102="  "),
            {"00080100": {"vr": "SH"}, "00080102": {"vr": "SH", "Value": [None]}},
        ),
        number=2,
    ),
    "ST": Pool("ST", TEXTS, (*ODD_TEXTS, "one\\two", "two\r\nlines")),
    "TM": Pool(
        "TM",
        ("101530.123", "0915", "23", "235959.999999", "10:15:30", "000000 "),
        (
            *("240000", "1060", "101575", "1015.5", "10:15", "10:15:30.25", "101530.", "noon", "1"),
            *("235960", "101560.5", "101530.1234567", " 0915", "10:1530", ""),
        ),
    ),
    "UI": Pool("UI", ("1.2.3", "1.2.4"), ("1.2.3\0", "")),
    "UI class": Pool(
        "UI",
        ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"),
        ("1.2.3\0", "", "1.2.840.10008.5.1.4.1.1.6.1\0"),
    ),
    "US": Pool("US", (512, 256, 512, "512"), (65535, 2**31, 1.5, 256.0, "", "x")),
}  # fmt: skip
# The attributes that are shown, by pool.
_TAGS_OF = {
    "AS": "00101010",
    "CS": """00080060 00080061 00180015 00200060 00100040 00185100 00185101 00200062 00080008
             00280004 00282110 00280301 00120062 00080068 00080005""",
    "DA": "00080020 00080021 00080022 00080023 00400244",
    "DA birth": "00100030",
    "DS": "00180050",
    "DS pair": "00280030",
    "DT": "0008002A",
    "IS": "00201206 00201208 00200011 00201209 00200013 00200012 00280008",
    "LO": """00081030 00100021 00100020 00081090 0008103E 00080070 00080080 00081040 00181000
             00181020 00181030 00321060 00400254 00180010""",
    "PN": "00100010 00080090 00081070 00081050",
    "SH": "00080050 00200010 00081010",
    "SH offset": "00080201",
    "SQ": "00081032 00082218",
    "ST": "00420010",
    "TM": "00080030 00080031 00080032 00080033 00400245",
    "UI": "00200052",
    "UI class": "00080016",
    "US": "00280010 00280011 00280100 00280101 00280002",
}
ATTRIBUTES = {tag: POOLS[name] for name, tags in _TAGS_OF.items() for tag in tags.split()}
TAGS = tuple(ATTRIBUTES)
ROLLED = ("00080020", "00081030", "00100021", "00100020", "00100010", "00080060")
# What makes one value together, or is rolled up and would be rare otherwise.
TOGETHER = (
    ("00080201", "00080020", "00080030"),
    ("00080201", "00080021", "00080031"),
    ("00080201", "00080022", "00080032"),
    ("00080201", "00080023", "00080033"),
    ("00080201", "0008002A"),
    ("00101010",),
    ("00080020", "00100030"),
    ("00081032", "00082218"),
    ("00080016", "00200011", "00280008"),
    ("00280010", "00280011", "00180050", "00280030"),
    ("00080070", "00080080", "00081010", "00180015"),
)
RICH = 20
UPDATED = (*ROLLED[1:5], "00080050", "00080090", "00100030", "00100040", "00101010")
EMPTY: tuple[Header, ...] = ({}, {"Value": []}, {"Value": [None]}, {"Value": None})
NOT_SHOWN: Header = {
    "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}, {}]},
    "00180088": {"vr": "DS", "Value": [1.0, 2.5]},
    "00091001": {"vr": "LT", "Value": ["private \u2028 text"]},
}
# What is not of the form of PS3.18 F.2, or not of the VR's JSON type.
MISSHAPEN: tuple[Header, ...] = (
    {"00081010": {"vr": "SH", "Value": [True]}},
    {"00180015": {"vr": "CS", "Value": ["HEAD", {"a": 1}]}},
    {"00080070": {"vr": "LO", "Value": [["A"]]}},
    {"00280010": {"vr": "US", "Value": [[512]]}, "00280008": {"vr": "IS", "Value": [False]}},
    {"00081032": {"vr": "SQ", "Value": ["text"]}},
    {"00082218": {"vr": "SQ", "Value": item(_00080100="T-D3000", _00080102="SRT")}},
    {"00080060": {"vr": "CS", "Value": "CT"}},
    {"00080020": "20260131", "0008002A": {"vr": "DT", "Value": [20260131]}},
)


def element(random: Random, pool: Pool) -> Header:
    """An attribute: empty in one of four ways, or with one or several values, some of them odd."""
    form = random.randrange(32)
    if form < len(EMPTY):
        return {"vr": pool.vr} | EMPTY[form]
    number = pool.number if form > len(EMPTY) + 2 else random.randrange(1, 4)
    return {"vr": pool.vr, "Value": [value(random, pool) for _ in range(number)]}


def value(random: Random, pool: Pool) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A usual value five times out of six, else an odd one, or null."""
    if random.randrange(6):
        return random.choice(pool.usual)
    return random.choice(pool.odd) if random.randrange(8) else None


def minimal_header(key: Key) -> Header:
    """A header that names its instance, and nothing else."""
    uids = zip(("0020000D", "0020000E", "00080018"), key[1:], strict=True)
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids}


def header(random: Random, key: Key, most: int) -> Header:
    """A header of an instance with up to so many attributes, and those of the rollups.

    A rich one has attributes that make a value together too, and may be misshapen.
    """
    made = minimal_header(key)
    tags = random.sample(TAGS, random.randrange(most + 1))
    tags += [tag for tag in ROLLED if random.randrange(4)]
    if most >= RICH:
        tags += [tag for group in TOGETHER if random.randrange(2) for tag in group]
    made |= {tag: element(random, ATTRIBUTES[tag]) for tag in tags}
    if most >= RICH and random.randrange(8) == 0:
        made |= random.choice(MISSHAPEN)
    return made | (NOT_SHOWN if random.randrange(4) == 0 else {})


def changes(random: Random) -> Header:
    """What a bulk update changes: a few attributes, some of them emptied."""
    tags = random.sample(UPDATED, random.randrange(1, 4))
    return {tag: element(random, ATTRIBUTES[tag]) for tag in tags}
