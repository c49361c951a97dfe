"""The DICOM attributes of the columns, and the paths to them in a header.

The attributes of the catalogue are listed here with their PS3.6 facts and their action of PS3.15
Table E.1-1. A test compares the list with pydicom's dictionary. All other attributes are looked up
in that dictionary, which is imported only when a user adds columns.
"""

import difflib
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Final

from dicom_assets.errors import SettingsError

# Beside this module: pydicom's dictionary takes as long to import as all the core.
UID_NAMES: Final = "uids.tsv"
# The service removes attributes of these VRs from a header, at every depth.
BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_VRS: Final = frozenset(
    {
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL"),
        *("SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UR", "US", "UT", "UV"),
    }
)


@dataclass(frozen=True)
class Attribute:
    """A DICOM attribute: keyword, tag (8 hexadecimal digits), VR, VM, and its PS3.15 class.

    The class is the action of Table E.1-1 without any option, "-" for an attribute that is not in
    the table. A private attribute has no keyword, and `xx` in its tag for its creator's block.
    """

    keyword: str
    tag: str
    vr: str
    vm: str = "1"
    ps315: str = "-"


_LISTED: Final = """
00080005 CS 1-n  -      SpecificCharacterSet
00080008 CS 2-n  -      ImageType
00080016 UI 1    -      SOPClassUID
00080018 UI 1    U      SOPInstanceUID
00080020 DA 1    Z      StudyDate
00080021 DA 1    X/D    SeriesDate
00080022 DA 1    X/Z    AcquisitionDate
00080023 DA 1    Z/D    ContentDate
0008002A DT 1    X/Z/D  AcquisitionDateTime
00080030 TM 1    Z      StudyTime
00080031 TM 1    X/D    SeriesTime
00080032 TM 1    X/Z    AcquisitionTime
00080033 TM 1    Z/D    ContentTime
00080050 SH 1    Z      AccessionNumber
00080060 CS 1    -      Modality
00080061 CS 1-n  -      ModalitiesInStudy
00080068 CS 1    -      PresentationIntentType
00080070 LO 1    -      Manufacturer
00080080 LO 1    X/Z/D  InstitutionName
00080090 PN 1    Z      ReferringPhysicianName
00080100 SH 1    -      CodeValue
00080102 SH 1    -      CodingSchemeDesignator
00080104 LO 1    -      CodeMeaning
00080119 UC 1    -      LongCodeValue
00080120 UR 1    -      URNCodeValue
00080201 SH 1    X      TimezoneOffsetFromUTC
00081010 SH 1    X/Z/D  StationName
00081030 LO 1    X      StudyDescription
00081032 SQ 1    -      ProcedureCodeSequence
0008103E LO 1    X      SeriesDescription
00081040 LO 1    X      InstitutionalDepartmentName
00081050 PN 1-n  X      PerformingPhysicianName
00081070 PN 1-n  X/Z/D  OperatorsName
00081090 LO 1    -      ManufacturerModelName
00082218 SQ 1    -      AnatomicRegionSequence
00100010 PN 1    Z      PatientName
00100020 LO 1    Z/D    PatientID
00100021 LO 1    X      IssuerOfPatientID
00100030 DA 1    Z      PatientBirthDate
00100040 CS 1    Z      PatientSex
00101010 AS 1    X      PatientAge
00120062 CS 1    -      PatientIdentityRemoved
00180010 LO 1    Z/D    ContrastBolusAgent
00180015 CS 1    -      BodyPartExamined
00180050 DS 1    -      SliceThickness
00181000 LO 1    X/Z/D  DeviceSerialNumber
00181020 LO 1-n  -      SoftwareVersions
00181030 LO 1    X/D    ProtocolName
00185100 CS 1    -      PatientPosition
00185101 CS 1    -      ViewPosition
0020000D UI 1    U      StudyInstanceUID
0020000E UI 1    U      SeriesInstanceUID
00200010 SH 1    Z      StudyID
00200011 IS 1    -      SeriesNumber
00200012 IS 1    -      AcquisitionNumber
00200013 IS 1    -      InstanceNumber
00200052 UI 1    U      FrameOfReferenceUID
00200060 CS 1    -      Laterality
00200062 CS 1    -      ImageLaterality
00201206 IS 1    -      NumberOfStudyRelatedSeries
00201208 IS 1    -      NumberOfStudyRelatedInstances
00201209 IS 1    -      NumberOfSeriesRelatedInstances
00280002 US 1    -      SamplesPerPixel
00280004 CS 1    -      PhotometricInterpretation
00280008 IS 1    -      NumberOfFrames
00280010 US 1    -      Rows
00280011 US 1    -      Columns
00280030 DS 2    -      PixelSpacing
00280100 US 1    -      BitsAllocated
00280101 US 1    -      BitsStored
00280301 CS 1    -      BurnedInAnnotation
00282110 CS 1    -      LossyImageCompression
00321060 LO 1    X/Z    RequestedProcedureDescription
00400244 DA 1    X      PerformedProcedureStepStartDate
00400245 TM 1    X      PerformedProcedureStepStartTime
00400254 LO 1    X      PerformedProcedureStepDescription
00420010 ST 1    X      DocumentTitle
"""


ATTRIBUTES: Final = {
    keyword: Attribute(keyword, *facts)
    for *facts, keyword in map(str.split, _LISTED.strip().splitlines())
}
_BY_TAG: Final = {a.tag: a for a in ATTRIBUTES.values()}

_STEP: Final = re.compile(
    r"""(?: (?P<tag>[0-9A-Fa-f]{8}) (?![A-Za-z0-9])
          | (?P<keyword>[A-Za-z][A-Za-z0-9]*)
          | \((?P<group>[0-9A-Fa-f]{4}),(?P<element>[0-9A-Fa-f]{4})\)
          | \((?P<odd>[0-9A-Fa-f]{3}[13579BDFbdf]),
              "(?P<creator>[^"\\]{1,64})",
              (?P<last>[0-9A-Fa-f]{2})\)
        )(?:\[(?P<index>[0-9]{1,6}|\*)\])?""",
    re.VERBOSE,
)
ALL: Final = -1


@dataclass(frozen=True)
class Step:
    """One step of a path: an attribute, and the index of its value or item from 0, or ALL."""

    attribute: Attribute
    creator: str | None = None
    index: int = ALL


@dataclass(frozen=True)
class Path:
    r"""A path to values: `Rows`, `PixelSpacing[1]`, `AnatomicRegionSequence[0].CodeMeaning`.

    A step is a keyword, a tag, `(gggg,eeee)`, or `(gggg,"CREATOR",ee)` for a private attribute.
    Several values or items are joined by a backslash.
    """

    text: str
    steps: tuple[Step, ...]

    @property
    def attribute(self) -> Attribute:
        """The attribute at the end of the path."""
        return self.steps[-1].attribute


def path(text: str, vr: str | None = None) -> Path:
    """Return the path of a text. `vr` is the VR of a private attribute at its end.

    Raises SettingsError for any other text, with the most similar keyword as a hint.
    """
    steps, at = [], 0
    while True:
        match = _STEP.match(text, at)
        if match is None:
            raise SettingsError(
                f"{text!r} is not a path to an attribute: steps are keywords, 8-digit tags or "
                '(gggg,"CREATOR",ee), with [0] or [*] after a sequence, joined by dots'
            )
        steps.append(_step(match, text))
        at = match.end()
        if at == len(text):
            return Path(text, _checked(steps, text, vr))
        if text[at] != ".":
            raise SettingsError(f"{text!r} is not a path to an attribute from character {at} on")
        at += 1


def _step(match: re.Match[str], text: str) -> Step:
    index = ALL if match["index"] in {None, "*"} else int(match["index"])
    if match["creator"]:
        tag = f"{match['odd']}xx{match['last']}".upper().replace("XX", "xx")
        return Step(Attribute("", tag, "LO", ps315="X"), match["creator"], index)
    if match["keyword"]:
        return Step(attribute_of(match["keyword"]), None, index)
    tag = (match["tag"] or match["group"] + match["element"]).upper()
    if int(tag[:4], 16) % 2:
        raise SettingsError(
            f"{text!r}: the tag {tag} is private, and its block differs from file to file. Name "
            f'its creator: ({tag[:4]},"CREATOR",{tag[6:]})'
        )
    return Step(attribute_at(tag), None, index)


def _checked(steps: list[Step], text: str, vr: str | None) -> tuple[Step, ...]:
    *outer, last = steps
    if vr is not None:
        if not last.creator:
            was = last.attribute.vr
            raise SettingsError(f"{text!r} has the VR {was} (PS3.6): leave out the `vr`")
        last = _with_vr(last, vr)
    outer = [_with_vr(step, "SQ") if step.creator else step for step in outer]
    if wrong := [step.attribute for step in outer if step.attribute.vr != "SQ"]:
        name = wrong[0].keyword or wrong[0].tag
        raise SettingsError(f"{text!r}: {name} is not a sequence, so nothing lies inside it")
    found = last.attribute.vr
    if found in BULK_VRS:
        why = f"has the VR {found}, which the service leaves out of headers: it cannot be a column"
    elif steps[0].attribute.tag.startswith(("0000", "0002")):  # PS3.5 7.1
        why = "belongs to a file or a message, not to a header: it cannot be a column"
    elif found == "SQ":
        why = "is a sequence: name an attribute inside it, as in [0].CodeMeaning"
    elif found not in _VRS:
        why = f"has the VR {found!r}: take one of {', '.join(sorted(_VRS))}"
    else:
        return *outer, last
    raise SettingsError(f"{text!r} {why}")


def _with_vr(step: Step, vr: str) -> Step:
    return replace(step, attribute=replace(step.attribute, vr=vr))


def attribute_of(keyword: str) -> Attribute:
    """Return the attribute with a keyword. Raises SettingsError when PS3.6 has none."""
    if keyword in ATTRIBUTES:
        return ATTRIBUTES[keyword]
    from pydicom import datadict  # noqa: PLC0415 - slow, and only needed for added columns

    tag = datadict.tag_for_keyword(keyword)
    if tag is None:
        known = {known.lower(): known for known in datadict.keyword_dict}
        near = difflib.get_close_matches(keyword.lower(), known, 1)
        hint = f"; {known[near[0]]} is one" if near else ""
        raise SettingsError(f"{keyword!r} is not a DICOM keyword (PS3.6){hint}")
    return attribute_at(f"{tag:08X}")


def attribute_at(tag: str) -> Attribute:
    """Return the attribute with a public tag. Raises SettingsError when PS3.6 has none."""
    if tag in _BY_TAG:
        return _BY_TAG[tag]
    from pydicom import datadict  # noqa: PLC0415 - as above

    number = int(tag, 16)
    if not datadict.dictionary_has_tag(number):
        raise SettingsError(f"{tag} is not a DICOM tag (PS3.6)")
    vr = datadict.dictionary_VR(number).split(" or ")[0]
    keyword, vm = datadict.dictionary_keyword(number), datadict.dictionary_VM(number)
    # The dictionary does not have the PS3.15 class.
    return Attribute(keyword, tag, vr, vm, "?")


@cache
def uid_names() -> dict[str, str]:
    """Return the names of UIDs (PS3.6, Table A-1), from the file that `make docs` generates."""
    text = (resources.files(__package__ or "") / UID_NAMES).read_text(encoding="utf-8")
    return dict(line.split("\t") for line in text.splitlines())
