"""The settings: each variable, its default, and what is refused with which remedy."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings, setting_fields

SETTINGS = setting_fields()
REMOTE = {
    "DICOM_SERVICE_URL": "https://w-s.dicom.azurehealthcareapis.com",
    "DICOM_START_TIME": "2026-01-01T00:00:00Z",
    "DICOM_TABLES_URL": "abfss://c@a.dfs.core.windows.net/dicom",
}
US, MSI = "https://login.microsoftonline.us", "http://127.0.0.1:41741/msi"
CONTRACT: list[tuple[str, str, object, str, object]] = [
    ("service_url", "DICOM_SERVICE_URL", None, "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ("api_version", "DICOM_API_VERSION", 2, "3", 3),
    ("batch_size", "DICOM_BATCH_SIZE", 200, "1", 1),
    (
        "start_time",
        "DICOM_START_TIME",
        None,
        "2026-01-01T10:00:00+05:30",
        datetime(2026, 1, 1, 4, 30, tzinfo=UTC),
    ),
    ("end_time", "DICOM_END_TIME", None, "2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
    ("tables_url", "DICOM_TABLES_URL", "data/dicom", "az://c/dicom/", "az://c/dicom"),
    ("instance_table_path", "DICOM_INSTANCE_TABLE_PATH", "instance", "a/i", "a/i"),
    ("series_table_path", "DICOM_SERIES_TABLE_PATH", "series", "a/s", "a/s"),
    ("study_table_path", "DICOM_STUDY_TABLE_PATH", "study", "A=b.c_d-1", "A=b.c_d-1"),
    ("change_table_path", "DICOM_CHANGE_TABLE_PATH", "change", "log", "log"),
    ("sync_table_path", "DICOM_SYNC_TABLE_PATH", "sync", "seals", "seals"),
    ("rejected_table_path", "DICOM_REJECTED_TABLE_PATH", "rejected", "bad", "bad"),
    ("retention_hours", "DICOM_RETENTION_HOURS", 720, "168", 168),
    ("delay_minutes", "DICOM_DELAY_MINUTES", 15, "0", 0),
    ("schedule", "DICOM_SCHEDULE", "15 * * * *", "0 2 * * *", "0 2 * * *"),
    ("missing_hours", "DICOM_MISSING_HOURS", "oldest-first", "newest-first", "newest-first"),
    ("retry_seconds", "DICOM_RETRY_SECONDS", 600, "5", 5),
    ("requests_in_flight", "DICOM_REQUESTS_IN_FLIGHT", 8, "1", 1),
    ("data_partitions", "DICOM_DATA_PARTITIONS", None, " b, a ,b", ("a", "b")),
    ("site_time_zone", "DICOM_SITE_TIME_ZONE", None, "Europe/Vienna", "Europe/Vienna"),
    ("columns_file", "DICOM_COLUMNS_FILE", None, "/etc/columns.toml", "/etc/columns.toml"),
    ("header_columns", "DICOM_HEADER_COLUMNS", None, "both", "both"),
    ("alerts", "DICOM_ALERTS", (), "a://b, c://d\ne://f", ("a://b", "c://d", "e://f")),
    ("alerts_service", "DICOM_ALERTS_SERVICE", (), "m://h?to=a@b,c@d", ("m://h?to=a@b,c@d",)),
    ("alerts_platform", "DICOM_ALERTS_PLATFORM", (), "a://b", ("a://b",)),
    ("alerts_data", "DICOM_ALERTS_DATA", (), "a://b", ("a://b",)),
    ("web_url", "DICOM_WEB_URL", "http://127.0.0.1:3000", "https://d.example", "https://d.example"),
    ("heartbeat_url", "DICOM_HEARTBEAT_URL", None, "https://h.example/1", "https://h.example/1"),
    ("storage_account", "AZURE_STORAGE_ACCOUNT_NAME", None, "dicomlake", "dicomlake"),
    ("authority", "AZURE_AUTHORITY_HOST", None, "login.microsoftonline.us/", US),
    ("identity_endpoint", "IDENTITY_ENDPOINT", None, "http://127.0.0.1:41741/msi", MSI),
]


def refusal(**given: str) -> str:
    """The message with which the environment is refused; names lack their `DICOM_`."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({f"DICOM_{name}": value for name, value in given.items()})
    assert caught.value.__cause__ is None
    return str(caught.value)


def accepted(**given: str) -> Settings:
    """The settings of an environment; names lack their `DICOM_`."""
    return Settings.from_environment({f"DICOM_{name}": value for name, value in given.items()})


def test_the_contract_names_every_field() -> None:
    """In the order of the class, each with its variable."""
    found = [(f.name, f.metadata["variable"]) for f in SETTINGS]
    assert found == [(name, variable) for name, variable, *_ in CONTRACT]


@pytest.mark.parametrize(("name", "variable", "default", "text", "value"), CONTRACT)
def test_a_field_has_its_variable_and_its_default(
    name: str, variable: str, default: object, text: str, value: object
) -> None:
    """Unset, empty and blank give the default; spaces around a value do not count."""
    for environment in ({}, {variable: ""}, {variable: "  "}):
        assert getattr(Settings.from_environment(environment), name) == default
    assert getattr(Settings.from_environment({variable: f" {text}\n"}), name) == value


@pytest.mark.parametrize("field", SETTINGS, ids=lambda f: f.name)
def test_a_field_says_what_it_means_and_what_holds_without_it(field: object) -> None:
    """The generated page has no empty cell."""
    metadata: dict[str, str] = getattr(field, "metadata", {})
    assert metadata["meaning"]
    assert metadata["shown"]


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("service_url", "linked service, Base URL"),
        ("api_version", "ApiVersion"),
        ("batch_size", "BatchSize"),
        ("start_time", "StartTime"),
        ("end_time", "EndTime"),
        ("tables_url", "ContainerName"),
        ("instance_table_path", "InstanceTablePath"),
        ("series_table_path", "SeriesTablePath"),
        ("study_table_path", "StudyTablePath"),
        ("retention_hours", "RetentionHours"),
    ],
)
def test_a_field_names_the_templates_parameter(name: str, variable: str) -> None:
    """Who comes from Data Factory finds each of its parameters."""
    assert {f.name: f.metadata["template"] for f in SETTINGS}[name] == variable


def test_the_process_environment_is_read_when_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And other variables are left alone."""
    monkeypatch.setenv("DICOM_BATCH_SIZE", "7")
    monkeypatch.setenv("DICOM_UNKNOWN", "x")
    assert Settings.from_environment().batch_size == 7


def test_settings_cannot_be_changed() -> None:
    """What was checked stays as it was checked."""
    with pytest.raises(AttributeError):
        Settings().batch_size = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("BATCH_SIZE", "0", "a whole number from 1 to 200 is needed"),
        ("BATCH_SIZE", "201", "a whole number from 1 to 200 is needed"),
        ("BATCH_SIZE", "-1", "a whole number from 1 to 200 is needed"),
        ("BATCH_SIZE", "blah", "a whole number from 1 to 200 is needed"),
        ("BATCH_SIZE", "1e2", "a whole number from 1 to 200 is needed"),
        ("BATCH_SIZE", "\u0667", "a whole number from 1 to 200 is needed"),
        ("API_VERSION", "1", "a whole number from 2 to 9 is needed"),
        ("API_VERSION", "v2", "a whole number from 2 to 9 is needed"),
        ("RETENTION_HOURS", "167", "a whole number of at least 168 is needed"),
        ("DELAY_MINUTES", "-1", "a whole number from 0 to 1440 is needed"),
        ("RETRY_SECONDS", "86401", "a whole number from 0 to 86400 is needed"),
        ("START_TIME", "yesterday", "a time such as 2026-01-31T10:00:00Z is needed"),
        ("END_TIME", "2026-02-30", "a time such as 2026-01-31T10:00:00Z is needed"),
        ("SCHEDULE", "hourly", "five fields"),
        ("SITE_TIME_ZONE", "Mars/Base", "such as Europe/Vienna"),
        ("SITE_TIME_ZONE", "../../etc/passwd", "such as Europe/Vienna"),
        ("DATA_PARTITIONS", "a,b c", "names of data partitions, separated by commas"),
        ("DATA_PARTITIONS", "a/b", "names of data partitions, separated by commas"),
    ],
)
def test_a_wrong_value_is_refused_with_variable_and_remedy(
    variable: str, value: str, remedy: str
) -> None:
    """The message begins with the variable and says what it may be."""
    message = refusal(**{variable: value})
    assert message.startswith(f"DICOM_{variable}: ")
    assert remedy in message


@pytest.mark.parametrize(
    "value",
    [
        "ftp://s3cret.example.com",
        "s3cret",
        "https://",
        "https://user:s3cret@service.example.com",
        "https://s3cret@service.example.com",
        "https://@s3cret.example.com",
        "https://service.example.com/?code=s3cret",
        "https://service.example.com/#s3cret",
        "http://s3cret.example.com",
        "http://localhost:8080",
        "http://s3cret.localhost",
        "http://127.1:8080",
        "http://2130706433",
        "http://0.0.0.0:8080",
        "http://10.0.0.1",
        "http://127.0.0.1.s3cret.com",
        "http://127.0.0.1@s3cret.com",
    ],
)
def test_an_address_that_may_not_be_used_is_not_repeated(value: str) -> None:
    """Wrong scheme, a user, a query, plain http to anything but a literal loopback address."""
    message = refusal(SERVICE_URL=value)
    assert message.startswith("DICOM_SERVICE_URL: ")
    assert "s3cret" not in message


@pytest.mark.parametrize("value", ["https://[s3cret]/", "https://[::1", "https://a]b/"])
def test_an_address_with_broken_brackets_is_refused_like_any_other(value: str) -> None:
    """It names the variable and does not repeat the value, as every refusal does."""
    message = refusal(SERVICE_URL=value)
    assert message.startswith("DICOM_SERVICE_URL: ")
    assert "s3cret" not in message


@pytest.mark.parametrize("port", ["99999999", "s3cret", "-1"])
def test_an_address_with_an_impossible_port_is_refused(port: str) -> None:
    """A password that slipped in behind the colon is refused at start, not by the first request."""
    message = refusal(SERVICE_URL=f"http://127.0.0.1:{port}")
    assert message.startswith("DICOM_SERVICE_URL: ")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "value",
    [
        "http://127.0.0.1:8080",
        "http://127.255.255.254",
        "http://[::1]:8080",
        "https://127.0.0.1:8443",
    ],
)
def test_a_literal_loopback_address_needs_neither_start_nor_root(value: str) -> None:
    """IPv4 and IPv6, with plain http too."""
    settings = accepted(SERVICE_URL=f"{value}/")
    assert settings.service_url == value
    assert settings.start_time is None
    assert not settings.is_embedded


@pytest.mark.parametrize("missing", ["DICOM_START_TIME", "DICOM_TABLES_URL"])
@pytest.mark.parametrize("blank", ["", " ", None])
def test_a_remote_service_needs_a_start_and_a_root(missing: str, blank: str | None) -> None:
    """Without either it is refused, by name: an empty variable counts as unset."""
    given = {n: v for n, v in REMOTE.items() if n != missing} | ({missing: blank} if blank else {})
    with pytest.raises(SettingsError, match=f"{missing} is required"):
        Settings.from_environment(given)


def test_a_remote_service_with_start_and_root_is_accepted() -> None:
    """That is all that has to be said."""
    settings = Settings.from_environment(REMOTE)
    assert settings.service_url == "https://w-s.dicom.azurehealthcareapis.com"
    assert settings.start_time == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", ["0001-01-01", "0001-01-01T00:00:00Z", "1601-01-01", "0001"])
def test_the_templates_default_start_is_refused_with_the_way_to_the_right_one(value: str) -> None:
    """It would make millions of hours that hold nothing."""
    message = refusal(START_TIME=value)
    assert message.startswith("DICOM_START_TIME: ")
    assert "template's default" in message
    assert "`dicom-assets check` prints the feed's first hour" in message


@pytest.mark.parametrize("value", ["1900-01-01", "1989-12-31T23:59:59Z"])
def test_a_start_before_any_service_is_refused(value: str) -> None:
    """1990 is the first year that is taken."""
    assert "use the feed's first hour" in refusal(START_TIME=value)
    assert accepted(START_TIME="1990-01-01").start_time == datetime(1990, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("end", ["2026-01-01T00:00:00Z", "2025-12-31", "2026-01-01T01:00:00+02:00"])
def test_a_start_that_is_not_before_the_end_is_refused_with_both(end: str) -> None:
    """Both variables are named, so that either can be moved."""
    message = refusal(START_TIME="2026-01-01T00:00:00Z", END_TIME=end)
    assert "DICOM_START_TIME 2026-01-01T00:00:00Z is not before DICOM_END_TIME" in message
    assert "move one of them" in message


@pytest.mark.parametrize("value", ["9999-12-31", "9999-12-31T23:59:59.9999999Z"])
def test_the_last_day_of_the_calendar_is_an_open_end(value: str) -> None:
    """The template writes "never" so."""
    assert accepted(END_TIME=value).end_time is None


def test_what_only_begins_like_the_last_year_is_no_open_end() -> None:
    """A mistyped end does not make the range endless."""
    assert "a time such as" in refusal(END_TIME="9999nonsense")


def test_an_end_that_its_zone_moves_out_of_the_calendar_is_refused() -> None:
    """With variable and remedy, as anything else that is no time."""
    assert "a time such as" in refusal(END_TIME="0001-01-01T00:00:00+05:00")


@pytest.mark.parametrize(
    "value", ["s3://s3cret", "file:///s3cret", "https://u:s3cret@h", "hdfs://x", "memory://x"]
)
def test_tables_lie_on_a_path_or_in_azure(value: str) -> None:
    """Another scheme is refused; what stands behind it is not repeated."""
    message = refusal(TABLES_URL=value)
    assert message.startswith("DICOM_TABLES_URL: ")
    assert "s3cret" not in message


@pytest.mark.parametrize("value", ["../x", "a/../b", "az://c/../x", "a\\..\\b", ".."])
def test_a_root_never_climbs(value: str) -> None:
    """A path with `..` is refused in every form."""
    assert refusal(TABLES_URL=value) == "DICOM_TABLES_URL: a path without '..' is needed"


@pytest.mark.parametrize(
    "value",
    [
        "az://c/dicom?sv=2024&sig=s3cret",
        "abfss://user:s3cret@account.dfs.core.windows.net/dicom",
        "az://c/dicom#s3cret",
    ],
)
def test_a_root_holds_no_secret(value: str) -> None:
    """Messages and metadata name the root: a token in it would be shown with every one of them."""
    message = refusal(TABLES_URL=value)
    assert message.startswith("DICOM_TABLES_URL: ")
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "value",
    [
        "abfss://c@a.dfs.core.windows.net.example/x",
        "abfss://c@a.dfs.evilcore.windows.example/x",
        "abfss://c@core.windows.net/x",
        "abfss://c@a/x",
        "az://c@127.0.0.1/x",
    ],
)
def test_a_root_in_azure_is_below_a_host_of_azure(value: str) -> None:
    """Whoever writes another gets no token for the storage sent there."""
    assert refusal(TABLES_URL=value).startswith("DICOM_TABLES_URL: an account")


@pytest.mark.parametrize("value", ["http://login.microsoftonline.us", "https://", "https://a/t?x"])
def test_an_authority_is_an_https_address(value: str) -> None:
    """As azure-identity and delta-rs want it; both forms of it are brought to one."""
    with pytest.raises(SettingsError, match="AZURE_AUTHORITY_HOST"):
        Settings.from_environment({"AZURE_AUTHORITY_HOST": value})


@pytest.mark.parametrize("value", ["az://", "abfss:///dicom"])
def test_a_root_in_azure_names_a_container(value: str) -> None:
    """Without one it is refused, instead of becoming a folder called `az:`."""
    assert refusal(TABLES_URL=value).startswith("DICOM_TABLES_URL: ")


@pytest.mark.parametrize(
    "value",
    [
        "abfss://c@a.dfs.core.windows.net/x",
        "az://c/x",
        "abfss://ws@onelake.dfs.fabric.microsoft.com/lake.Lakehouse/Tables",
        "abfss://c@a.z12.dfs.storage.azure.net/x",
        "abfss://c@a.dfs.core.usgovcloudapi.net/x",
        "abfss://c@a.dfs.core.chinacloudapi.cn/x",
    ],
)
def test_a_root_in_azure_stays_as_it_is(value: str) -> None:
    """A table lies below it."""
    settings = accepted(TABLES_URL=value)
    assert settings.tables_root == value
    assert settings.table_path("instance") == f"{value}/instance"


@pytest.mark.parametrize("space", [" ", "%20", "\u00a0"])
def test_a_workspace_of_onelake_with_a_space_is_refused(space: str) -> None:
    """No engine reaches it by its name, and each says so in its own riddle: its GUID is named."""
    host = "onelake.dfs.fabric.microsoft.com"
    for value in (f"abfss://My{space}Clinic@{host}/lake.Lakehouse/Tables", f"az://My{space}Clinic"):
        message = refusal(TABLES_URL=value)
        assert message.startswith("DICOM_TABLES_URL: ")
        assert "use the GUID" in message


def test_a_local_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every process means the same folder, wherever it was started."""
    monkeypatch.chdir(tmp_path)
    assert Settings().tables_root == f"{tmp_path.as_posix()}/data/dicom"
    given = accepted(TABLES_URL="lake/", SYNC_TABLE_PATH="a/seals")
    assert given.table_path("sync") == f"{tmp_path.as_posix()}/lake/a/seals"
    assert given.table_relative_path("sync") == "a/seals"
    assert accepted(TABLES_URL=str(tmp_path)).tables_root == tmp_path.as_posix()


@pytest.mark.parametrize(
    "value",
    ["../x", "a/../b", "..", "/abs", "a//b", "a/", "s3://x", "C:\\x", "a b", "a%2fb", "ä", "a'b"],
)
@pytest.mark.parametrize("table", ["INSTANCE", "REJECTED"])
def test_a_table_lies_below_the_root(table: str, value: str) -> None:
    """Neither above, nor elsewhere, nor under a name that a URL would have to escape."""
    message = refusal(**{f"{table}_TABLE_PATH": value})
    assert message.startswith(f"DICOM_{table}_TABLE_PATH: a path below DICOM_TABLES_URL is needed")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SERIES_TABLE_PATH", "instance"), ("INSTANCE_TABLE_PATH", "sync"), ("SYNC_TABLE_PATH", ".")],
)
def test_no_table_lies_in_another(variable: str, value: str) -> None:
    """Two tables at one path, or one around all others, contradict themselves: refused at start."""
    assert f"DICOM_{variable}" in refusal(**{variable: value})


def test_data_partitions_that_name_none_are_refused() -> None:
    """A list without names does not mean all: a tenant's root would hold every tenant's rows."""
    assert "names of data partitions" in refusal(DATA_PARTITIONS=", ,")


@pytest.mark.parametrize("value", ["Europe", "x" * 300], ids=["folder", "long"])
def test_a_zone_that_is_a_folder_or_too_long_is_refused_like_any_other(value: str) -> None:
    """Whatever the zone database makes of it, the variable is named."""
    assert refusal(SITE_TIME_ZONE=value).startswith("DICOM_SITE_TIME_ZONE: ")


def test_the_embedded_service_is_what_holds_without_a_url() -> None:
    """Nothing has to be set at all."""
    assert Settings.from_environment({}).is_embedded
    assert Settings.from_environment({}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALERTS", "s3cret"),
        ("ALERTS_DATA", "s3cret://"),
        ("WEB_URL", "ftp://s3cret.example.com"),
        ("HEARTBEAT_URL", "file:///s3cret"),
        ("HEARTBEAT_URL", "https:///s3cret"),
        ("HEARTBEAT_URL", "https://h.example/#s3cret"),
    ],
)
def test_an_address_for_alerts_that_is_none_is_not_repeated(variable: str, value: str) -> None:
    """What Apprise makes of the others is asked where definitions are built."""
    message = refusal(**{variable: value})
    assert message.startswith(f"DICOM_{variable}: ")
    assert "s3cret" not in message


def test_addresses_with_secrets_are_not_shown() -> None:
    """Neither in a log nor in a trace that shows the settings."""
    given = {"ALERTS": "slack://s3cret", "ALERTS_DATA": "json://s3cret"}
    settings = accepted(**given, HEARTBEAT_URL="https://h.example/s3cret")
    assert "s3cret" not in repr(settings)
