"""`deploy/infra/` makes one identity with two roles in Azure, and storage that keeps to its rules.

Bicep's own compiler cannot be had from a package index, so that the files are read by another
parser of the language; `az bicep build` says the last word (docs/operate/azure.md).
"""

from __future__ import annotations

import re
from typing import Any, Final

import pycep
import pytest

from dicom_assets.commands.check.storage import FOLDER
from dicom_assets_tests.support.layout import ROOT

Json = dict[str, Any]

INFRA: Final = ROOT / "deploy" / "infra"
PAGE: Final = (ROOT / "docs" / "operate" / "azure.md").read_text(encoding="utf-8")
# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
DICOM_DATA_READER: Final = "e89c7a3c-2f64-4fa1-a847-3e4c9ba4283a"
STORAGE_BLOB_DATA_CONTRIBUTOR: Final = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
CONTAINER: Final = "Microsoft.Storage/storageAccounts/blobServices/containers"
SERVICE: Final = "Microsoft.HealthcareApis/workspaces/dicomservices"
ASSIGNMENT: Final = "Microsoft.Authorization/roleAssignments"


def read(name: str) -> Json:
    """What a file of the folder declares."""
    return dict(pycep.BicepParser().parse(text=(INFRA / name).read_text(encoding="utf-8")))


MAIN: Final = read("main.bicep")
READER: Final = read("reader.bicep")


def made(*files: Json) -> list[str]:
    """The types of what is made, not only referred to, by the files."""
    found = [resource for file in files for resource in file["resources"].values()]
    return sorted(resource["type"] for resource in found if not resource["existing"])


def properties(name: str) -> Json:
    """The properties of a resource of the main file."""
    found: Json = MAIN["resources"][name]["config"]["properties"]
    return found


def granted(file: Json) -> list[tuple[str, str]]:
    """The role that each assignment of a file gives, and the type of what it is given on."""
    assignments = [r for r in file["resources"].values() if r["type"] == ASSIGNMENT]
    return [(_role(file, one["config"]), _scope(file, one["config"])) for one in assignments]


def _role(file: Json, config: Json) -> str:
    name = config["properties"]["roleDefinitionId"]["function"]["parameters"]["resource_name_1"]
    return str(file["variables"][name]["value"])


def _scope(file: Json, config: Json) -> str:
    scope = config["scope"]
    if isinstance(scope, dict):
        operands = scope["operator"]["operands"]
        scope = f"{operands['operand_1']}__{operands['operand_2']}"
    return str(file["resources"][scope]["type"])


def test_the_identity_gets_two_roles_and_no_third() -> None:
    """One on the container, not on the account; one on the DICOM service, not on its workspace."""
    assert granted(MAIN) == [(STORAGE_BLOB_DATA_CONTRIBUTOR, CONTAINER)]
    assert granted(READER) == [(DICOM_DATA_READER, SERVICE)]


def test_nothing_else_is_made() -> None:
    """The DICOM service least of all: it is referred to."""
    assert made(MAIN, READER) == sorted(
        [
            ASSIGNMENT,
            ASSIGNMENT,
            CONTAINER,
            "Microsoft.ManagedIdentity/userAssignedIdentities",
            "Microsoft.Storage/storageAccounts",
            "Microsoft.Storage/storageAccounts/blobServices",
            "Microsoft.Storage/storageAccounts/managementPolicies",
        ]
    )
    modules = {name: module["detail"]["full"] for name, module in MAIN["modules"].items()}
    assert modules == {"reader": "reader.bicep"}


def test_both_roles_go_to_the_same_identity() -> None:
    """The one that is made, or the service principal that was named."""
    assert MAIN["resources"]["writer"]["config"]["properties"]["principalId"] == "principalId"
    assert MAIN["modules"]["reader"]["config"]["params"]["principalId"] == "principalId"
    assert READER["resources"]["reader"]["config"]["properties"]["principalId"] == "principalId"


def test_the_account_lets_nobody_in_by_key_or_without_a_name() -> None:
    """A data lake, over TLS 1.2, by roles only."""
    account = properties("account")
    account.pop("networkAcls")
    assert account == {
        "isHnsEnabled": True,
        "accessTier": "Hot",
        "minimumTlsVersion": "TLS1_2",
        "supportsHttpsTrafficOnly": True,
        "allowBlobPublicAccess": False,
        "allowSharedKeyAccess": False,
        "allowCrossTenantReplication": False,
    }
    assert properties("container") == {"publicAccess": "None"}


def test_no_file_of_a_table_is_deleted_or_moved_by_its_age() -> None:
    """A live file may be years old; the only rule is about the folder of `dicom-assets check`."""
    (rule,) = properties("lifecycle")["policy"]["rules"]
    prefix = f"${{containerName}}/${{folder}}/{FOLDER}/"
    assert rule["definition"]["filters"]["prefixMatch"] == [prefix]
    assert list(rule["definition"]["actions"]) == ["baseBlob"]


def test_the_parameters_are_those_that_are_asked_for() -> None:
    """Each that has no default is given, and none that there is not."""
    text = (INFRA / "main.bicepparam").read_text(encoding="utf-8")
    given = set(re.findall(r"^param (\w+) =", text, re.MULTILINE))
    asked = MAIN["parameters"]
    required = {name for name, one in asked.items() if one["default"] is None}
    assert required <= given <= set(asked)


@pytest.mark.parametrize("value", ["Storage Blob Data Contributor", "DICOM Data Reader"])
def test_the_page_gives_the_same_roles_by_hand(value: str) -> None:
    """On the same scopes; and no further one in the commands of that section."""
    section = PAGE.split("## The same by hand")[1].split("\n## ")[0]
    roles = re.findall(r'--role "([^"]+)"', section)
    assert sorted(roles) == ["DICOM Data Reader", "Storage Blob Data Contributor"]
    scope = {"DICOM Data Reader": "$service", "Storage Blob Data Contributor": "$container"}
    assert re.search(rf'--role "{value}" --scope "\{scope[value]}"', section)
