"""Commits of other programs since the last look, and newest commits that are lost."""

import hashlib

import msgspec

from dicom_assets.schema import Table
from dicom_assets.tables.delta.folder import Folder
from dicom_assets.tables.delta.foreign import REPAIRED, TAKEN_OVER_AT, foreign_commits
from dicom_assets.tables.delta.snapshot import ABSENT, Store

# The most faults of a table that are kept until it is repaired.
MOST_FAULTS = 50


class Look(msgspec.Struct, frozen=True):
    """The state of a table's log at one look, which the next look is given.

    `digest` is that of the commit of `version`, `table_id` that of the table, which a table that is
    created anew does not share. `repaired` is the last repair of the table, `faults` are sentences
    about all that was found since then. `unknown` commits had left the log unseen.
    """

    version: int
    digest: str
    table_id: str
    repaired: str
    faults: tuple[str, ...] = ()
    unknown: int = 0


def look_at(store: Store, table: Table, last: Look | None) -> Look:
    """Look at the commits of a table since the last look; the first look finds no fault.

    While a table is gone (`sync.gone_tables`) the last look stays.
    """
    snapshot, folder = store.open(table), Folder.of(store, table)
    if snapshot.delta is None and last is not None:
        return last
    log, version = folder.log(), snapshot.version
    digests = {
        v: hashlib.sha256(folder.read(log.commits[v].path)).hexdigest()
        for v in {version, last.version if last else version}
        if v in log.commits
    }
    repaired = snapshot.property(REPAIRED) or ""
    table_id = "" if snapshot.delta is None else str(snapshot.delta.metadata().id)
    look = Look(version, digests.get(version, ""), table_id, repaired)
    if last is None:
        return look
    since, faults = last.version, list(last.faults)
    if table_id != last.table_id:
        # The table was gone, and was created anew.
        since, faults = ABSENT, []
    elif repaired > last.repaired:
        since, faults = int(repaired.rpartition(" ")[2]), []
    elif version < since:
        faults.append(f"its newest commits are lost: version {since} was seen, it has {version}")
        since = version
    elif digests.get(since, last.digest) != last.digest:
        faults.append(f"version {since} is another than was seen: its newest commits were lost")
        since = version
    since = max(since, int(snapshot.property(TAKEN_OVER_AT) or -1))
    commits = foreign_commits(folder, log, since)
    faults += [str(commit) for commit in commits if commit.version <= version]
    first = min(log.commits, default=version + 1)
    return msgspec.structs.replace(
        look, faults=tuple(faults[-MOST_FAULTS:]), unknown=max(0, first - since - 1)
    )
