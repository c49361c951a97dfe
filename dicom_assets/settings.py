"""The settings: every environment variable, its default, its meaning and its check, once.

Only `Settings.from_environment` reads the environment; all other code gets a `Settings`. Beside it
`keep_private` sets the mode of the files that a process of ours makes.
Contradictions are refused here, at start, with the variables and the ways out. The configuration
page in docs is generated from the fields below.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dicom_assets.errors import SettingsError

T = TypeVar("T")

ARCHIVE_DIRECTORY = "data/archive"
LOOPBACK_DIRECTORY = "data/loopback"
HOME_DIRECTORY = "data/dagster"
# The archive of a root that `dicom-assets import` made, below the root.
OWN_ARCHIVE = "archive"
FIRST_YEAR = 1990
# A week: the time that the engines give a reader to finish with a replaced version.
LEAST_RETENTION_HOURS = 168
LAST_YEAR = 9999
HEADER_COLUMNS = ("string", "map", "both")
OLDEST_FIRST, NEWEST_FIRST = "oldest-first", "newest-first"
TABLE_SCHEMES = ("abfss", "abfs", "az", "azure", "adl")
# The hosts of storage accounts, in every cloud. A token for the storage is sent to no other host.
STORAGE_HOSTS = (
    ".core.windows.net",
    ".storage.azure.net",
    ".fabric.microsoft.com",
    ".core.usgovcloudapi.net",
    ".core.chinacloudapi.cn",
)
_CHANNELS = "addresses of Apprise, such as mailto://…, are needed (docs/operate/alerts.md)"


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value) if re.fullmatch(r"-?\d{1,9}", value, re.ASCII) else least - 1
        if number < least or (most is not None and number > most):
            bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise SettingsError(f"a whole number {bounds} is needed")
        return number

    return parse


def _matching(pattern: str, message: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise SettingsError(message)
        return value

    return parse


def _moment(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingsError("a time such as 2026-01-31T10:00:00Z is needed") from None


def _start(value: str) -> datetime:
    if re.match(r"0{3}\d|1[0-8]", value):
        raise SettingsError(
            "a start this early is the Data Factory template's default and would make millions of "
            "empty hours; `dicom-assets check` prints the feed's first hour: use that"
        )
    moment = _moment(value)
    if moment.year < FIRST_YEAR:
        raise SettingsError(f"{moment:%Y} lies before any DICOM service: use the feed's first hour")
    return moment


def _end(value: str) -> datetime | None:
    moment = _moment(value)
    return None if moment.year == LAST_YEAR else moment


def _split(value: str, such_as: str) -> SplitResult:
    # The parser's own errors quote the value.
    try:
        parts = urlsplit(value)
        _ = parts.port, parts.hostname
    except ValueError:
        raise SettingsError(such_as) from None
    return parts


def _service_url(value: str) -> str:
    such_as = "an address such as https://workspace-service.dicom.azurehealthcareapis.com"
    parts = _split(value, such_as)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise SettingsError(such_as)
    if parts.username is not None or parts.query or parts.fragment:
        raise SettingsError("the address may hold no user, query or fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise SettingsError(
            "http:// is for a literal loopback address such as 127.0.0.1: use https://"
        )
    return value.rstrip("/")


def _tables_url(value: str) -> str:
    if ".." in re.split(r"[/\\]", value):
        raise SettingsError("a path without '..' is needed")
    if "://" not in value:
        return value.rstrip("/") or "/"
    such_as = f"a path, or a container by {', '.join(f'{s}://' for s in TABLE_SCHEMES)}, is needed"
    parts = _split(value, such_as)
    if parts.scheme not in TABLE_SCHEMES or not parts.netloc:
        raise SettingsError(such_as)
    # `container@account` is how Azure writes it; a colon would make a password of it.
    if parts.query or parts.fragment or ":" in parts.netloc:
        raise SettingsError(
            "a root without user, query or fragment: secrets go into the environment"
        )
    container, named, host = parts.netloc.rpartition("@")
    if re.search(r"\s|%20", container or host):
        raise SettingsError(
            "a container without a space is needed. A workspace of OneLake whose name has one: use "
            "the GUID, of the workspace and of the lakehouse, as in "
            "abfss://WORKSPACE_GUID@onelake.dfs.fabric.microsoft.com/LAKEHOUSE_GUID/Tables"
        )
    if named and not re.fullmatch(r"[a-z0-9-]+(\.z\d+)?\.(dfs|blob)\..+", host, re.ASCII):
        raise SettingsError("an account is needed, such as container@account.dfs.core.windows.net")
    if named and not host.endswith(STORAGE_HOSTS):
        raise SettingsError(
            f"an account below one of {', '.join(h[1:] for h in STORAGE_HOSTS)} is needed; at "
            "another address: az://container/…, AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ENDPOINT"
        )
    return value.rstrip("/")


def _table_path(value: str) -> str:
    parts = value.split("/")
    named = all(re.fullmatch(r"[A-Za-z0-9_.=-]+", part, re.ASCII) for part in parts)
    if not named or {".", ".."} & set(parts):
        raise SettingsError(
            "a path below DICOM_TABLES_URL is needed: letters, digits, _ - . = and /"
        )
    return value


def _data_partitions(value: str) -> tuple[str, ...] | None:
    names = tuple(sorted({name.strip() for name in value.split(",") if name.strip()}))
    if not names or not all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) for name in names):
        raise SettingsError("names of data partitions, separated by commas, are needed")
    return names


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(
            "a zone of the IANA database is needed, such as Europe/Vienna"
        ) from None
    return value


def _channels(value: str) -> tuple[str, ...]:
    # Not at every comma: an address may hold one, as mailto://…?to=one@…,other@… does.
    urls = tuple(re.split(r"[\s,]+(?=[a-z][a-z0-9+.-]*://)", value, flags=re.IGNORECASE))
    if not all(re.match(r"[a-z][a-z0-9+.-]*://\S", url, re.IGNORECASE) for url in urls):
        raise SettingsError(_CHANNELS)
    return urls


def _web_address(value: str) -> str:
    such_as = "an address such as https://dagster.hospital.example is needed"
    parts = _split(value, such_as)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.fragment:
        raise SettingsError(such_as)
    return value


def _authority(value: str) -> str:
    # Azure's own forms: with and without https://, with and without a slash at the end.
    such_as = "an address such as https://login.microsoftonline.us is needed"
    parts = _split(value if "://" in value else f"https://{value}", such_as)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise SettingsError(such_as)
    return f"https://{parts.netloc}"


def _setting(  # noqa: PLR0913 - one line per setting is the point
    variable: str,
    parse: Callable[[str], T],
    default: T,
    meaning: str,
    *,
    shown: str | None = None,
    template: str = "",
    secret: bool = False,
) -> Any:  # noqa: ANN401 - a dataclass field, typed by the class it is in
    shown = shown or ("unset" if default is None else str(default))
    metadata = {"variable": variable, "parse": parse, "meaning": meaning}
    metadata |= {"shown": shown, "template": template}
    return field(default=default, metadata=metadata, repr=not secret)


def _table(name: str, template: str = "") -> Any:  # noqa: ANN401 - as above
    variable = f"DICOM_{name.upper()}_TABLE_PATH"
    meaning = f"path of the `{name}` table below the tables URL"
    return _setting(variable, _table_path, name, meaning, template=template)


def _alerts(suffix: str, meaning: str) -> Any:  # noqa: ANN401 - as above
    shown = "as DICOM_ALERTS" if suffix else "nobody is told"
    nobody: tuple[str, ...] = ()
    return _setting(f"DICOM_ALERTS{suffix}", _channels, nobody, meaning, shown=shown, secret=True)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a process; each field has its variable, default and meaning."""

    service_url: str | None = _setting(
        "DICOM_SERVICE_URL",
        _service_url,
        None,
        "the DICOM service; unset, the embedded one with its archive in `data/archive` is used. "
        "`http://` is accepted for a literal loopback address only, and then without credentials",
        shown="unset: the embedded service",
        template="linked service, Base URL",
    )
    api_version: int = _setting(
        "DICOM_API_VERSION", _whole(2, 9), 2, "version of the service's API", template="ApiVersion"
    )
    batch_size: int = _setting(
        "DICOM_BATCH_SIZE", _whole(1, 200), 200, "entries per page", template="BatchSize"
    )
    start_time: datetime | None = _setting(
        "DICOM_START_TIME",
        _start,
        None,
        "first moment that is read (UTC, inclusive); required with a service that is not loopback",
        shown="embedded: the archive's first hour; loopback: 48 hours before the first look",
        template="StartTime",
    )
    end_time: datetime | None = _setting(
        "DICOM_END_TIME",
        _end,
        None,
        "moment at which reading stops (UTC, exclusive); no snapshot: an instance changed later "
        "reads as it stands now",
        shown="open",
        template="EndTime",
    )
    tables_url: str = _setting(
        "DICOM_TABLES_URL",
        _tables_url,
        "data/dicom",
        "root of the tables: a path, `abfss://…`, `az://…`, OneLake; required with a service that "
        "is not loopback. One root belongs to one archive",
        template="ContainerName",
    )
    instance_table_path: str = _table("instance", "InstanceTablePath")
    series_table_path: str = _table("series", "SeriesTablePath")
    study_table_path: str = _table("study", "StudyTablePath")
    change_table_path: str = _table("change")
    sync_table_path: str = _table("sync")
    rejected_table_path: str = _table("rejected")
    further_table_paths: Mapping[str, str] = field(default_factory=dict, hash=False)
    retention_hours: int = _setting(
        "DICOM_RETENTION_HOURS",
        _whole(LEAST_RETENTION_HOURS),
        720,
        "how long files that are no longer part of a table are kept, in hours",
        template="RetentionHours",
    )
    delay_minutes: int = _setting(
        "DICOM_DELAY_MINUTES",
        _whole(0, 1440),
        15,
        "how long after its end an hour is read, because the service shows changes late",
        template="tumbling window's Delay",
    )
    schedule: str = _setting(
        "DICOM_SCHEDULE",
        _matching(
            r"\S+(\s+\S+){4,5}", "a cron schedule of five fields is needed, such as 15 * * * *"
        ),
        "15 * * * *",
        "when the schedule ticks (cron, UTC)",
        template="tumbling window's recurrence",
    )
    missing_hours: str = _setting(
        "DICOM_MISSING_HOURS",
        _matching(f"{OLDEST_FIRST}|{NEWEST_FIRST}", f"{OLDEST_FIRST} or {NEWEST_FIRST} is needed"),
        OLDEST_FIRST,
        "in which order the schedule asks for hours that are missing: `oldest-first` or "
        "`newest-first`; an hour that has just ended waits for neither",
    )
    retry_seconds: int = _setting(
        "DICOM_RETRY_SECONDS",
        _whole(0, 86_400),
        600,
        "how long a failing request is tried again before the run is red",
    )
    requests_in_flight: int = _setting(
        "DICOM_REQUESTS_IN_FLIGHT",
        _whole(1, 64),
        8,
        "how many requests a run has at the service at once, with and without headers together; "
        "fewer while the service is overloaded",
    )
    data_partitions: tuple[str, ...] | None = _setting(
        "DICOM_DATA_PARTITIONS",
        _data_partitions,
        None,
        "data partitions to keep, separated by commas; one root per tenant, because access to a "
        "Delta table cannot be split",
        shown="all",
    )
    site_time_zone: str | None = _setting(
        "DICOM_SITE_TIME_ZONE",
        _zone,
        None,
        "zone of DICOM times without offset; unset, they give no UTC timestamp, never an assumed "
        "one",
    )
    columns_file: str | None = _setting(
        "DICOM_COLUMNS_FILE",
        lambda value: str(Path(value).absolute()),  # a run may have another working directory
        None,
        "a file that names columns of your own and ready packs (docs/use/own-columns.md)",
    )
    header_columns: str | None = _setting(
        "DICOM_HEADER_COLUMNS",
        _matching("|".join(HEADER_COLUMNS), f"one of {', '.join(HEADER_COLUMNS)} is needed"),
        None,
        "in which form `instance` keeps the header: `string` (`metadata_string`), `map` "
        "(`metadata`, the template's form, which costs a merge four times as much) or `both`; "
        "columns of your own are filled from `metadata_string` only",
        shown="string; both in a table that was taken over with its map filled",
    )
    alerts: tuple[str, ...] = _alerts(
        "",
        "who is told when something needs a person: addresses of Apprise (mail, Slack, Teams, "
        "PagerDuty, webhooks …), separated by white space or commas (docs/operate/alerts.md)",
    )
    alerts_service: tuple[str, ...] = _alerts("_SERVICE", "the same, for the PACS administrator")
    alerts_platform: tuple[str, ...] = _alerts("_PLATFORM", "the same, for the data engineer")
    alerts_data: tuple[str, ...] = _alerts("_DATA", "the same, for the researchers")
    web_url: str = _setting(
        "DICOM_WEB_URL",
        _web_address,
        "http://127.0.0.1:3000",
        "where people open Dagster's page; alerts link to it",
    )
    heartbeat_url: str | None = _setting(
        "DICOM_HEARTBEAT_URL",
        _web_address,
        None,
        "asked (GET) once a minute while everything ticks; a monitor that is no longer asked tells "
        "somebody that nothing runs any more",
        secret=True,
    )
    storage_account: str | None = _setting(
        "AZURE_STORAGE_ACCOUNT_NAME",
        _matching(
            r"[a-z0-9-]{3,}", "the name of a storage account is needed: small letters and digits"
        ),
        None,
        "account of a tables URL that names a container only (`az://container/…`)",
    )
    authority: str | None = _setting(
        "AZURE_AUTHORITY_HOST",
        _authority,
        None,
        "where Entra ID gives tokens, for the service and for the storage; sovereign clouds have "
        "their own (docs/operate/identity.md)",
        shown="https://login.microsoftonline.com",
    )
    identity_endpoint: str | None = _setting(
        "IDENTITY_ENDPOINT",
        _web_address,
        None,
        "set by App Service, Functions and Container Apps: where a managed identity's tokens are "
        "asked for, for the service and for the storage",
        shown="unset: the virtual machine's own",
    )

    def __post_init__(self) -> None:
        """Raise SettingsError for values that contradict one another."""
        if self.start_time and self.end_time and self.start_time >= self.end_time:
            raise SettingsError(
                f"DICOM_START_TIME {self.start_time:%Y-%m-%dT%H:%M:%SZ} is not before "
                f"DICOM_END_TIME {self.end_time:%Y-%m-%dT%H:%M:%SZ}: move one of them"
            )
        names = [f.name for f in fields(self) if f.name.endswith("_table_path")]
        paths = {f"DICOM_{name.upper()}": getattr(self, name) for name in names}
        for table, path in self.further_table_paths.items():
            paths[f"DICOM_{table.upper()}_TABLE_PATH"] = path
        for (one, outer), (other, inner) in permutations(paths.items(), 2):
            if f"{inner}/".startswith(f"{outer}/"):
                raise SettingsError(f"{one} and {other} lie in one another: choose two paths")

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        complete: bool = True,
        further_tables: Iterable[str] = (),
    ) -> "Settings":
        """Return the settings of the process's environment, or of the mapping given.

        `complete` requires all settings that a run needs; a command that helps to find one does
        not. `further_tables` are names of tables: one without a field for its path here has a
        setting of the same form. Raises SettingsError with the variable and the remedy, never with
        the variable's value.
        """
        given = os.environ if environment is None else environment
        values: dict[str, Any] = {field.name: _read(field, given) for field in setting_fields()}
        names = [name for name in further_tables if not hasattr(cls, f"{name}_table_path")]
        paths = {name: str(_read(_table(name), given)) for name in names}
        settings = cls(**values, further_table_paths=paths)
        url = settings.service_url
        if not complete or url is None or is_loopback(urlsplit(url).hostname):
            return settings
        if settings.start_time is None:
            raise SettingsError(
                "DICOM_START_TIME is required with a DICOM service that is not on this machine; "
                "`dicom-assets check` prints the feed's first hour"
            )
        if not given.get("DICOM_TABLES_URL", "").strip():
            raise SettingsError(
                "DICOM_TABLES_URL is required with a DICOM service that is not on this machine: "
                "say where its tables shall lie"
            )
        return settings

    def table_path(self, table: str) -> str:
        """Return the full path or URL of a table, given its name in `schema`."""
        return f"{self.tables_root}/{self.table_relative_path(table)}"

    def table_relative_path(self, table: str) -> str:
        """Return the path of a table below the root, given its name in `schema`."""
        own = getattr(self, f"{table}_table_path", None)
        return str(own or self.further_table_paths.get(table, table))

    @property
    def is_embedded(self) -> bool:
        """True if the DICOM service is the embedded one."""
        return self.service_url is None

    @property
    def archive_directory(self) -> str:
        """The folder of the embedded service's archive: that of the root if it has one."""
        own = Path(self.tables_root, OWN_ARCHIVE)
        return str(own) if own.is_dir() else ARCHIVE_DIRECTORY

    @property
    def tables_root(self) -> str:
        """The root of the tables: a URL, or an absolute path."""
        url = self.tables_url
        return url if "://" in url else Path(url).absolute().as_posix()


def setting_fields() -> list["Field[Any]"]:
    """Return the fields that are settings: each has its variable, default and meaning."""
    return [field for field in fields(Settings) if field.metadata]


def _read(setting: "Field[Any]", given: Mapping[str, str]) -> object:
    variable = setting.metadata["variable"]
    value = given.get(variable, "").strip()
    try:
        return setting.metadata["parse"](value) if value else setting.default
    except SettingsError as error:
        raise SettingsError(f"{variable}: {error}") from None


def is_loopback(host: str | None) -> bool:
    """Return True for a literal loopback address; a name is none, whatever it resolves to."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


# The home of every default. Resources take theirs from here.
DEFAULTS = Settings()


def keep_private() -> None:
    """Let the files and folders that this process makes from now on be their owner's alone.

    Where the folder of the tables lets others in, or DAGSTER_HOME lets them write, somebody shares
    what comes there, and nothing changes.
    """
    root = os.environ.get("DICOM_TABLES_URL") or DEFAULTS.tables_url
    home = os.environ.get("DAGSTER_HOME") or HOME_DIRECTORY
    if not (grants(root, 0o077) or grants(home, 0o022)):
        os.umask(0o077)


def keep_quiet() -> None:
    """Let the Dagster of this process, and of those that it starts, report to nobody."""
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")


def use_archive(name: str | None) -> None:
    """Let this process, and those that it starts, work on an archive that `import` has made.

    Without a name it is the only one in `data/`, unless a setting says where the tables lie. Raises
    SettingsError unless there is one of that name.
    """
    if os.environ.get("DICOM_SERVICE_URL"):
        if name is None:
            return
        raise SettingsError("--name is for an archive of files, but DICOM_SERVICE_URL is set")
    if name is None:
        own = sorted(path.parent for path in Path("data").glob(f"*/{OWN_ARCHIVE}"))
        is_told = os.environ.get("DICOM_TABLES_URL") or Path(ARCHIVE_DIRECTORY).is_dir()
        if is_told or len(own) != 1:
            return
        root = own[0]
    elif not (root := own_root(name)).joinpath(OWN_ARCHIVE).is_dir():
        raise SettingsError(
            f"there is no archive of the name {name} here: `dicom-assets import` makes it"
        )
    os.environ["DICOM_TABLES_URL"] = root.as_posix()
    os.environ["DAGSTER_HOME"] = (root / "dagster").as_posix()


def own_root(name: str) -> Path:
    """Return the root of an archive of files, by its name; SettingsError for one that is none."""
    taken = {Path(path).name for path in (ARCHIVE_DIRECTORY, LOOPBACK_DIRECTORY, HOME_DIRECTORY)}
    taken |= {Path(DEFAULTS.tables_url).name}
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name, re.ASCII) or name in taken:
        raise SettingsError(
            "--name: small letters, digits, - and _ are needed, and another name than "
            + ", ".join(sorted(taken))
        )
    return Path("data", name)


def grants(path: str | Path, bits: int) -> bool:
    """Return True if a path on a disk is there and its mode has one of the bits."""
    with suppress(OSError):
        return bool(Path(path).stat().st_mode & bits)
    return False
