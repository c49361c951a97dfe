"""Search over HTTP (QIDO-RS) for live studies, series and instances.

Here: the searchable attributes and the answer, newest first, of the service's conformance statement
(version 2). Left out: fuzzy matching, which is accepted and ignored, and extended query tags. Each
request reads every live header of a data partition, so it is for archives of a test's size.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_keyword, dictionary_VR, tag_for_keyword

from dicom_assets.emulator.feed import InvalidParameter, integer_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dicom_assets.emulator.archive import Archive, Instance

Dataset = dict[str, Any]

_WORDS: Final = frozenset({"limit", "offset", "fuzzymatching", "includefield"})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_DATES: Final = re.compile(r"(\d{8})?-(\d{8})?")
_STUDY: Final = "0020000D"
_SERIES: Final = "0020000E"
_MODALITY: Final = "00080060"
_MODALITIES: Final = "00080061"


class SearchLevel(IntEnum):
    """Level of a search; also the number of UIDs that name one item."""

    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Tags(NamedTuple):
    """Attributes of a level: answered by default, by `includefield=all`, and searchable."""

    default: tuple[str, ...]
    further: tuple[str, ...]
    searchable: frozenset[str]


def _tags(default: str, further: str, searchable: str = "") -> Tags:
    """Return the tags of a level. Those answered by default are searchable, too."""
    shown = tuple(default.split())
    return Tags(shown, tuple(further.split()), frozenset((*shown, *searchable.split())))


# docs/resources/v2-conformance-statement.md of microsoft/dicom-server, "Search Response".
TAGS: Final = {
    SearchLevel.STUDY: _tags(
        "00080020 00080050 00080090 00081030 00100010 00100020 00100030 0020000D",
        "00080005 00080030 00080056 00080063 00080201 00081032 00081060 00081080 00081110"
        " 00100040 00101010 00101020 00101030 00102180 001021B0 00200010",
        "00080061",
    ),
    SearchLevel.SERIES: _tags(
        "00080060 00081090 0020000E 00400244",
        "00080005 00080021 00080031 00080201 0008103E 00200011 00200060 00400245 00400275",
    ),
    SearchLevel.INSTANCE: _tags(
        "00080018",
        "00080005 00080016 00080056 00080201 00200013 00280008 00280010 00280011 00280100",
    ),
}


class SearchScope(NamedTuple):
    """Scope of a search: the data partition, and the UIDs in the path, study first."""

    partition: str
    uids: tuple[str, ...] = ()


class Query(NamedTuple):
    """Search parameters: filters by tag, tags to answer, and the page."""

    level: SearchLevel
    filters: tuple[tuple[str, str], ...]
    include: frozenset[str]
    offset: int
    limit: int


class InstanceGroup(NamedTuple):
    """Live instances of a study, of a series, or one instance, the newest first."""

    instances: list[Instance]
    study: list[Instance]

    @property
    def header(self) -> Dataset:
        """The header of the newest, which stands for all of them."""
        return self.instances[0].header

    @property
    def modalities(self) -> list[str]:
        """The modalities in the study."""
        return sorted({text for one in self.study for text in _texts(one.header.get(_MODALITY))})


# Attributes that no header holds, with their VR.
_COMPUTED: Final[Mapping[str, tuple[str, Callable[[InstanceGroup], list[Any]]]]] = {
    _MODALITIES: ("CS", lambda group: group.modalities),
    "00201206": ("IS", lambda group: [len({one.key.series for one in group.study})]),
    "00201208": ("IS", lambda group: [len(group.study)]),
    "00201209": (
        "IS",
        lambda group: [sum(one.key.series == group.instances[0].key.series for one in group.study)],
    ),
}


def parse_query(
    level: SearchLevel, scope: SearchScope, parameters: Iterable[tuple[str, str]]
) -> Query:
    """Return the query in the parameters. Raise InvalidParameter for an unsearchable attribute."""
    given = [(name.lower(), value) for name, value in parameters]
    paging = dict(reversed(given))
    # Those below the UIDs in the path, down to the level searched for.
    levels = [TAGS[one] for one in SearchLevel if len(scope.uids) < one <= level]
    filters = []
    for name, value in given:
        if name in _WORDS:
            continue
        tag = _tag(name)
        if not any(tag in tags.searchable for tags in levels):
            raise InvalidParameter(tag, "The attribute cannot be searched for here.")
        filters.append((tag, value))
    fields = [part for name, value in given if name == "includefield" for part in value.split(",")]
    return Query(
        level,
        tuple(filters),
        _included(level, levels, fields).union(tag for tag, _ in filters),
        integer_parameter(paging, "Offset", default=0, least=0, greatest=2**31 - 1),
        integer_parameter(paging, "Limit", default=100, least=1, greatest=200),
    )


def search(archive: Archive, scope: SearchScope, query: Query) -> list[Dataset]:
    """Return the matching datasets of the page, newest first."""
    matches = [
        group
        for group in _groups(archive, scope, query.level)
        if all(_is_match(group, tag, wanted) for tag, wanted in query.filters)
    ]
    page = matches[query.offset : query.offset + query.limit]
    return [_dataset(group, query.include) for group in page]


def _included(level: SearchLevel, levels: list[Tags], fields: list[str]) -> frozenset[str]:
    shown = {tag for tags in levels for tag in tags.default}
    shown |= {_STUDY, _SERIES} if level is SearchLevel.INSTANCE else {_STUDY}
    if "all" in fields:
        return frozenset(shown.union(*(tags.further for tags in levels)))
    return frozenset(shown.union(map(_tag, fields)))


def _tag(name: str) -> str:
    """Return the tag in hexadecimal digits, for a tag or a keyword in any case."""
    if _TAG.fullmatch(name):
        return name.upper()
    number = tag_for_keyword(_KEYWORDS.get(name.lower(), name))
    if number is None:
        raise InvalidParameter("attribute", "It is neither a tag nor a keyword.")
    return f"{number:08X}"


_KEYWORDS: Final = {
    word.lower(): word
    for tags in ((*level.searchable, *level.further, *_COMPUTED) for level in TAGS.values())
    for word in (dictionary_keyword(int(tag, 16)) for tag in tags)
}


def _groups(archive: Archive, scope: SearchScope, level: SearchLevel) -> list[InstanceGroup]:
    """Return the items of the level in the scope, newest first."""
    live = sorted(archive.instances(scope.partition), key=lambda one: -one.sequence)
    inside = [one for one in live if one.uids[: len(scope.uids)] == scope.uids]
    groups: dict[tuple[str, ...], list[Instance]] = {}
    studies: dict[str, list[Instance]] = {}
    for one in inside:
        groups.setdefault(one.uids[:level], []).append(one)
        studies.setdefault(one.uids[0], []).append(one)
    return [InstanceGroup(group, studies[key[0]]) for key, group in groups.items()]


def _is_match(group: InstanceGroup, tag: str, wanted: str) -> bool:
    values = group.modalities if tag == _MODALITIES else _texts(group.header.get(tag))
    is_date = dictionary_has_tag(tag) and dictionary_VR(tag) == "DA"
    dates = _DATES.fullmatch(wanted) if is_date else None
    if dates is None:
        return wanted.rstrip("\0 ").casefold() in map(str.casefold, values)
    first, last = dates[1] or "", dates[2] or "99999999"
    return any(first <= value <= last for value in values)


def _texts(attribute: Dataset | None) -> list[str]:
    """Return the values of an attribute as searchable texts, without padding."""
    values = (attribute or {}).get("Value", [])
    texts = [one.get("Alphabetic", "") if isinstance(one, dict) else one for one in values]
    return [str(text).rstrip("\0 ") for text in texts if text is not None]


def _dataset(group: InstanceGroup, include: frozenset[str]) -> Dataset:
    header = group.header
    dataset = {tag: header[tag] for tag in include if tag in header}
    for tag in include & set(_COMPUTED):
        vr, compute = _COMPUTED[tag]
        dataset[tag] = {"vr": vr, "Value": compute(group)}
    return dict(sorted(dataset.items()))
