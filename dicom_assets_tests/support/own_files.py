"""A folder such as a person has: images, copies, other files, and a zip file."""

import zipfile
from pathlib import Path
from typing import Final

from dicom_assets_tests.support.dicom_files import dataset, part_10

CUT: Final = "cut.dcm"


def image(study: int = 1, sop: int = 1, **attributes: object) -> bytes:
    """A DICOM file with UIDs 1.2.<study>, 1.2.<study>.1 and 1.2.<study>.1.<sop>."""
    made = dataset(study=study, sop=sop)
    made.Modality = "CT"
    made.AccessionNumber = f"ACC-{study}"
    made.PatientName = "Müller^Zoë"
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientID = f"00{study}"
    for keyword, value in attributes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return part_10(made)


def fill(folder: Path) -> Path:
    """Write two studies of three images, one of them in a zip file, and six files to refuse."""
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "one.dcm").write_bytes(image(1, 1))
    (folder / "deep" / "two").write_bytes(image(1, 2))
    (folder / "deep" / "er" / "copy").write_bytes(image(1, 1))
    (folder / "deep" / "er" / "other").write_bytes(image(1, 1, StudyDescription="Head"))
    (folder / "note.txt").write_text("not DICOM", encoding="utf-8")
    (folder / CUT).write_bytes(image(3)[:-3])
    (folder / "nameless.dcm").write_bytes(image(4, StudyInstanceUID=None))
    (folder / "loop").symlink_to(folder)
    with zipfile.ZipFile(folder / "some.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("../inside/image", image(2, 1, StudyDate="20210304", Modality="MR"))
        opened.writestr("readme", "not DICOM")
    return folder
