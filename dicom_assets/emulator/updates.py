"""Bulk update over HTTP: its request, its operation, its answers.

Here: the form of the request, the attributes that the service documents as updatable, the answers.
Not here: the effect of an update on the feed (`archive`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from dicom_assets.emulator import ticks
from dicom_assets.emulator.archive import Archive, NotStored, Operation, is_uid
from dicom_assets.emulator.headers import is_valid_attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_STUDIES: Final = 50
MAX_UPDATE_BYTES: Final = 2**20  # 50 UIDs and 36 attributes, the longest of 10,240 characters

# docs/concepts/bulk-update.md of microsoft/dicom-server: patient identification, patient
# demographic and general study module, sequences left out.
UPDATABLE: Final = frozenset(
    """
    00100010 00100020 00101000 00100022 00101001 00101005 00101060 00101090 00100021
    00101010 00102180 00403001 00100030 00100032 00100040 00100200 00101020 00101030
    00101040 00101080 00101081 00102150 00102152 00102154 00102160 001021F0 00104000
    00102297 00102298 00102299 00102201 00102292 00102295
    00080090 00080050 00081030
    """.split()  # noqa: SIM905 - a list of 36 strings reads worse
)


class InvalidUpdate(Exception):  # noqa: N818 - answered with 400, no fault of the emulator
    """A bulk update that the service refuses; `tags` are those of the refused attributes."""

    def __init__(self, message: str, tags: tuple[str, ...] = ()) -> None:
        """Keep the message for the client, which quotes no value."""
        super().__init__(message)
        self.tags = tags

    @property
    def dataset(self) -> dict[str, Any]:
        """FailedAttributesSequence, with one comment for each attribute."""
        comments = [
            {"00000902": {"vr": "LO", "Value": [f"DICOM100: ({tag[:4]},{tag[4:]}) - {self}"]}}
            for tag in self.tags
        ]
        return {"00741048": {"vr": "SQ", "Value": comments}}


class UpdateRequest(NamedTuple):
    """A bulk update that passed validation."""

    studies: tuple[str, ...]
    changes: Mapping[str, Any]


def parse_update(body: object) -> UpdateRequest:
    """Return the update in a JSON body; raise InvalidUpdate for any other body."""
    match body:
        case {"studyInstanceUids": [*studies], "changeDataset": {**changes}}:
            uids = tuple(uid for uid in studies if isinstance(uid, str) and is_uid(uid))
            if not uids or len(uids) != len(studies) or len(uids) > MAX_STUDIES:
                raise InvalidUpdate(f"studyInstanceUids must hold 1 to {MAX_STUDIES} UIDs")
            return UpdateRequest(uids, _changes(changes))
    raise InvalidUpdate("studyInstanceUids, a list, and changeDataset, an object, are needed")


def perform_update(archive: Archive, partition: str, request: UpdateRequest) -> Operation:
    """Perform the update, and return its operation, which the archive keeps."""
    try:
        updated = archive.update(request.studies, request.changes, partition=partition)
    except NotStored:
        updated = []
    operation = Operation(uuid4().hex, archive.clock(), len(request.studies), len(updated))
    archive.remember(operation)
    return operation


def operation_status(operation: Operation) -> dict[str, Any]:
    """Return the state of an operation, always completed: the emulator does the work at once."""
    moment = ticks.to_text(operation.ticks, "Z")
    return {
        "operationId": operation.id,
        "type": "update",
        "createdTime": moment,
        "lastUpdatedTime": moment,
        "status": "completed",
        "percentComplete": 100,
        "results": {"studyUpdated": operation.studies, "instanceUpdated": operation.instances},
    }


def _changes(attributes: Mapping[object, Any]) -> Mapping[str, Any]:
    changes = {str(tag): attribute for tag, attribute in attributes.items()}
    if not changes:
        raise InvalidUpdate("changeDataset must hold an attribute")
    foreign = tuple(sorted(tag for tag in changes if tag.upper() not in UPDATABLE))
    if foreign:
        raise InvalidUpdate("the attribute cannot be updated", foreign)
    known = {tag.upper(): element for tag, element in changes.items()}
    invalid = tuple(sorted(tag for tag in known if not is_valid_attribute(tag, known[tag])))
    if invalid:
        raise InvalidUpdate("the value does not validate its VR", invalid)
    return known
