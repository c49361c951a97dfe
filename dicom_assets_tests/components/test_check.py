"""`dicom-assets check` on a container: with a managed identity, over TLS, as a process would."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from dicom_assets_tests.commands.check.world import Told
from dicom_assets_tests.components.azurite import ACCOUNT
from dicom_assets_tests.components.cloud import CONTAINER
from dicom_assets_tests.support.command import run

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_assets_tests.components.cloud import Cloud

NOT_THERE_YET = "not there yet: the first run creates it"


def check(cloud: Cloud, folder: Path, root: str, **others: str) -> Told:
    """What the command says of the root."""
    settings = cloud.engine() | cloud.managed() | {"DICOM_TABLES_URL": root} | others
    done = run(folder, "check", "--json", **settings)
    return Told(done.returncode, json.loads(done.stdout))


def test_a_container_takes_a_file_and_gives_it_back(cloud: Cloud, tmp_path: Path) -> None:
    """Written, listed, read, deleted; nothing of it is left."""
    root = cloud.root()
    told = check(cloud, tmp_path, root)
    assert (told.code, told.named("red")) == (0, set()), told.lines
    assert told.lines["root"]["found"] == "the container answers"
    assert told.lines["access"]["found"] == "a file was written, listed, read, deleted"
    assert told.lines["instance"]["found"] == NOT_THERE_YET
    below = f"{CONTAINER}?restype=container&comp=list&prefix={root.rpartition('/')[2]}"
    assert b"<Name>" not in cloud.azurite.ask("GET", below).content


def test_a_container_that_is_not_there(cloud: Cloud, tmp_path: Path) -> None:
    """What needs it is not looked at."""
    told = check(cloud, tmp_path, f"abfss://nobodys@{ACCOUNT}.dfs.core.windows.net/tables")
    assert told.red()[0] == "the container is not there"
    assert {"access", "change", "schema"} <= told.named("not looked")


def test_no_identity_for_the_storage(cloud: Cloud, tmp_path: Path) -> None:
    """Who gives tokens does not know this process."""
    told = check(cloud, tmp_path, cloud.root(), IDENTITY_HEADER="another")
    assert told.red()[0] == "no token was given for the storage"


def test_a_certificate_of_the_storage_that_is_not_trusted(cloud: Cloud, tmp_path: Path) -> None:
    """As behind a proxy that opens TLS."""
    told = check(cloud, tmp_path, cloud.root(), SSL_CERT_FILE=os.devnull)
    found, remedy = told.red()
    assert found == "the certificate is not trusted"
    assert "SSL_CERT_FILE" in remedy
