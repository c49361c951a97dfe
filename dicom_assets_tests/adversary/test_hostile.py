"""Hostile entries on the wire: each arrives as it was written, and the others as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_assets_tests.adversary import hostile
from dicom_assets_tests.support.dicom_files import header, many

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive
    from dicom_assets_tests.adversary import Faults


def test_every_hostile_form_arrives_between_good_neighbours(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """First and third entry are untouched, and what is between them is what was written."""
    many(archive, 3)
    whole = client.get("/v2/changefeed").content
    first, second, third = (whole[1:-1].replace(b"},{", b"}\0{")).split(b"\0")
    for name, override in hostile.overrides(2, header(sop=2)):
        faults.replace(override)
        content = client.get("/v2/changefeed").content
        assert content.startswith(b"[" + first + b","), name
        assert content.endswith(b"," + third + b"]"), name
        middle = content[len(first) + 2 : -len(third) - 2]
        assert middle != second, name
        if override.metadata is not None:
            assert middle.endswith(b',"metadata":' + override.metadata + b"}"), name
        if override.entry is not None:
            assert middle == override.entry, name
        for field, value in override.fields.items():
            shown = b'"%b":' % field.encode()
            assert (shown in middle) is (value is not None), name
            assert value is None or shown + value in middle, name
