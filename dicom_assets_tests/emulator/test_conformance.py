"""The facts about the change feed, numbered as in the list of conformance, one test each.

Facts 29 (external storage), 33 (401 and 403), and 35 to 38 (faults) are in `test_conformance_odd`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from dicom_assets_tests.support.dicom_files import (
    TEN,
    dataset,
    feed,
    header,
    many,
    part_10,
    post,
    sequences,
    shapes,
)

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive

SECOND: Final = 10_000_000

WITHOUT_METADATA: Final = [
    "sequence",
    "partitionName",
    "studyInstanceUid",
    "seriesInstanceUid",
    "sopInstanceUid",
    "action",
    "timestamp",
    "state",
]


def refusal(client: httpx.Client, query: str, version: int = 2) -> str:
    """The parameter that the service blames, its answer having been a proper 400."""
    answer = client.get(f"/v{version}/changefeed{query}")
    assert answer.status_code == 400, f"{query} was accepted"
    assert answer.headers["content-type"].startswith("text/plain")
    blamed = re.match(r"The query parameter '(\w+)' is invalid\. \S", answer.text)
    assert blamed is not None, answer.text
    return blamed[1]


def test_fact_01_an_empty_service_answers_an_empty_list(client: httpx.Client) -> None:
    """An empty service answers 200 and `[]`."""
    for version in (1, 2):
        answer = client.get(f"/v{version}/changefeed")
        assert (answer.status_code, answer.text) == (200, "[]")


def test_fact_02_latest_of_an_empty_service_has_no_content(client: httpx.Client) -> None:
    """The newest entry of an empty service is 204 without a body."""
    for version in (1, 2):
        answer = client.get(f"/v{version}/changefeed/latest")
        assert (answer.status_code, answer.content) == (204, b"")


def test_fact_03_keys_have_their_names_and_order(client: httpx.Client, archive: Archive) -> None:
    """An entry has these keys in this order, metadata last."""
    archive.store(header())
    assert list(feed(client)[0]) == [*WITHOUT_METADATA, "metadata"]
    assert list(feed(client, "?includeMetadata=false")[0]) == WITHOUT_METADATA
    assert list(client.get("/v2/changefeed/latest").json()) == [*WITHOUT_METADATA, "metadata"]


def test_fact_04_action_and_state_are_pascal_case(client: httpx.Client, archive: Archive) -> None:
    """Actions and states are written with a capital."""
    archive.store(header(sop=1))
    archive.store(header(sop=2))
    archive.update(["1.2.1"], {"00081030": {"vr": "LO", "Value": ["new"]}})
    archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.1")
    entries = feed(client)
    assert {entry["action"] for entry in entries} == {"Create", "Update", "Delete"}
    assert {entry["state"] for entry in entries} == {"Current", "Replaced", "Deleted"}


@pytest.mark.parametrize(
    ("ticks", "text"),
    [
        (TEN, "2026-01-01T10:00:00+00:00"),
        (TEN + 5_000_000, "2026-01-01T10:00:00.5+00:00"),
        (TEN + 3_524_895, "2026-01-01T10:00:00.3524895+00:00"),
        (TEN + 243_470, "2026-01-01T10:00:00.024347+00:00"),
        (TEN + 1, "2026-01-01T10:00:00.0000001+00:00"),
        (16_693_658_523_524_895, "2022-11-25T08:44:12.3524895+00:00"),
    ],
)
def test_fact_05_timestamps_have_up_to_seven_digits(
    client: httpx.Client, archive: Archive, ticks: int, text: str
) -> None:
    """A timestamp has +00:00, never Z, at most 7 fraction digits, and no trailing zeros."""
    archive.store(header(), at=ticks)
    assert feed(client)[0]["timestamp"] == text


def test_fact_06_the_default_limit_is_100(client: httpx.Client, archive: Archive) -> None:
    """Without a limit a page of version 2 has 100 entries."""
    many(archive, 101)
    assert sequences(client) == list(range(1, 101))


def test_fact_07_a_limit_is_1_to_200(client: httpx.Client, archive: Archive) -> None:
    """Limits 1 and 200 are accepted; 0, -1, 201 and words are not."""
    many(archive, 201)
    assert sequences(client, "?limit=1") == [1]
    assert sequences(client, "?limit=200") == list(range(1, 201))
    for bad in ("0", "-1", "201", "blah", "1.0", "", "9" * 30):
        assert refusal(client, f"?limit={bad}") == "Limit"


def test_fact_08_an_offset_is_a_number_from_0_to_int64(
    client: httpx.Client, archive: Archive
) -> None:
    """Offsets -1, beyond int64 and words are refused; the greatest int64 is not."""
    archive.store(header())
    assert sequences(client, "?offset=9223372036854775807") == []
    assert sequences(client, "?offset=9223372036854775807", version=1) == []
    for bad in ("-1", "9223372036854775808", "9" * 5000, "blah"):
        assert refusal(client, f"?offset={bad}") == "Offset"
        assert refusal(client, f"?offset={bad}", version=1) == "Offset"


def test_fact_09_include_metadata_is_a_boolean(client: httpx.Client, archive: Archive) -> None:
    """False and TRUE are accepted in any case; 0, 1, yes and nothing are not."""
    archive.store(header())
    for text, shown in (("False", False), ("false", False), ("TRUE", True), ("true", True)):
        assert ("metadata" in feed(client, f"?includeMetadata={text}")[0]) is shown
        latest = client.get(f"/v2/changefeed/latest?includeMetadata={text}").json()
        assert ("metadata" in latest) is shown
    for bad in ("0", "1", "yes", ""):
        assert refusal(client, f"?includeMetadata={bad}") == "includeMetadata"
        assert client.get(f"/v2/changefeed/latest?includeMetadata={bad}").status_code == 400


def test_fact_10_names_ignore_case_and_unknown_ones_are_ignored(
    client: httpx.Client, archive: Archive
) -> None:
    """Parameter names may be in any case, and unknown ones change nothing."""
    many(archive, 5)
    query = "?LIMIT=2&oFFset=1&INCLUDEMETADATA=false&STARTtime=2026-01-01T10:00:01Z&colour=red"
    assert sequences(client, query) == [3, 4]
    assert "metadata" not in feed(client, query)[0]


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-01T10:00:02Z",
        "2026-01-01T10:00:02.0000000Z",
        "2026-01-01T10:00:02%2B00:00",
        "2026-01-01T03:00:02-07:00",
        "2026-01-01T15:30:02%2B05:30",
        "2026-01-01 10:00:02Z",
        "Thu, 01 Jan 2026 10:00:02 GMT",
    ],
)
def test_fact_11_times_need_a_zone(client: httpx.Client, archive: Archive, time: str) -> None:
    """A time with a zone is taken in several forms."""
    many(archive, 4)
    assert sequences(client, f"?startTime={time}") == [3, 4]
    assert sequences(client, f"?endTime={time}") == [1, 2]


@pytest.mark.parametrize(
    "time",
    [
        "foo",
        "2026-01-01",
        "2026-01-01T10:00:02",
        "2026-01-01T10:00:02+00:00",  # a plus that was not escaped is a space
        "2026-02-30T10:00:02Z",
        "0001-01-01T00:00:00%2B14:00",  # before the first year, in UTC
        "",
    ],
)
def test_fact_11_times_without_a_zone_are_refused(client: httpx.Client, time: str) -> None:
    """Words, bare dates, times without a zone and days that do not exist are refused."""
    assert refusal(client, f"?startTime={time}") == "StartTime"
    assert refusal(client, f"?endTime={time}") == "EndTime"


def test_fact_11_the_first_and_the_last_year_are_times(
    client: httpx.Client, archive: Archive
) -> None:
    """A window may span all time, as the Data Factory template's does by default."""
    many(archive, 2)
    query = "?startTime=0001-01-01T00:00:00Z&endTime=9999-12-31T23:59:59.9999999Z"
    assert sequences(client, query) == [1, 2]


def test_fact_12_a_window_must_not_end_before_it_starts(client: httpx.Client) -> None:
    """An end that is not after the start is refused."""
    for end in ("2026-01-01T10:00:00Z", "2026-01-01T09:59:59.9999999Z"):
        query = f"?startTime=2026-01-01T10:00:00Z&endTime={end}"
        assert refusal(client, query) == "EndTime"


def test_fact_13_the_start_is_inclusive_and_the_end_exclusive(
    client: httpx.Client, archive: Archive
) -> None:
    """Bounds are exact to 100 ns."""
    for place, ticks in enumerate((TEN, TEN + 1, TEN + 2), 1):
        archive.store(header(sop=place), at=ticks)
    at = "2026-01-01T10:00:00.000000"
    assert sequences(client, f"?startTime={at}1Z") == [2, 3]
    assert sequences(client, f"?endTime={at}1Z") == [1]
    assert sequences(client, f"?startTime={at}1Z&endTime={at}2Z") == [2]


def test_fact_14_the_order_is_timestamp_then_sequence(
    client: httpx.Client, archive: Archive
) -> None:
    """A late entry takes its place by its timestamp; equal timestamps go by sequence."""
    for place, ticks in enumerate((TEN + 5, TEN + 9, TEN + 5, TEN), 1):
        archive.store(header(sop=place), at=ticks)
    assert sequences(client) == [4, 1, 3, 2]


def test_fact_15_the_offset_counts_inside_the_window(
    client: httpx.Client, archive: Archive
) -> None:
    """An offset skips entries of the window; beyond its end there are none."""
    many(archive, 6)
    window = "startTime=2026-01-01T10:00:02Z&endTime=2026-01-01T10:00:05Z"
    assert sequences(client, f"?{window}") == [3, 4, 5]
    assert sequences(client, f"?{window}&offset=2") == [5]
    assert sequences(client, f"?{window}&offset=3") == []


@pytest.mark.parametrize("limit", [1, 7, 200])
def test_fact_16_pages_of_any_size_concatenate_to_the_same_list(
    client: httpx.Client, archive: Archive, limit: int
) -> None:
    """Pages of 1, 7 and 200 entries give the same feed, ties included."""
    for place in range(30):
        archive.store(header(sop=place + 1), at=TEN + place // 4)
    read: list[int] = []
    while page := sequences(client, f"?limit={limit}&offset={len(read)}"):
        read += page
    assert read == list(range(1, 31))


def test_fact_17_keyset_paging_is_exact_across_ties(client: httpx.Client, archive: Archive) -> None:
    """`startTime` = the last timestamp and `offset` = the rows seen with it lose nothing."""
    for place in range(40):
        archive.store(header(sop=place + 1), at=TEN + place // 13)
    read = feed(client, "?limit=5")
    while True:
        last = read[-1]["timestamp"]
        seen = sum(entry["timestamp"] == last for entry in read)
        start = last.replace("+", "%2B")
        page = feed(client, f"?limit=5&startTime={start}&offset={seen}")
        if not page:
            break
        read += page
    assert [entry["sequence"] for entry in read] == list(range(1, 41))


def test_fact_18_version_1_reads_a_range_of_sequences(
    client: httpx.Client, archive: Archive
) -> None:
    """In version 1 the offset is an exclusive sequence, the limit the width of the range."""
    many(archive, 12)
    archive.skip_sequences(100)
    archive.store(header(sop=13), at=TEN)
    assert sequences(client, "", version=1) == list(range(1, 11))
    assert sequences(client, "?offset=10", version=1) == [11, 12]
    assert sequences(client, "?offset=12&limit=100", version=1) == []
    assert sequences(client, "?offset=100&limit=100", version=1) == [113]
    assert sequences(client, "?limit=100&startTime=foo", version=1) == list(range(1, 13))
    assert refusal(client, "?limit=101", version=1) == "Limit"


def test_fact_19_both_versions_give_equal_entries(client: httpx.Client, archive: Archive) -> None:
    """An entry is the same text in version 1 and version 2."""
    archive.store(header(sop=1), at=TEN)
    archive.store(header(sop=2), at=TEN)
    archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.1", at=TEN + 1)
    assert client.get("/v1/changefeed").text == client.get("/v2/changefeed").text
    assert len(feed(client)) == 3


def test_fact_20_sequences_increase_may_gap_and_exceed_2_31(
    client: httpx.Client, archive: Archive
) -> None:
    """Sequences are int64, and their gaps prove nothing."""
    archive.store(header(sop=1))
    archive.skip_sequences(2**31)
    archive.store(header(sop=2))
    archive.skip_sequences(10)
    archive.skip_sequences(5)
    archive.store(header(sop=3))
    assert sequences(client) == [1, 2_147_483_650, 2_147_483_666]


def test_fact_21_metadata_is_absent_when_there_is_none(
    client: httpx.Client, archive: Archive
) -> None:
    """Metadata is absent, not null, when not asked for and for a deleted instance."""
    archive.store(header())
    assert feed(client)[0]["metadata"] == header()
    assert "metadata" not in feed(client, "?includeMetadata=false")[0]
    archive.delete("1.2.1")
    assert ["metadata" in entry for entry in feed(client)] == [False, False]
    assert "null" not in client.get("/v2/changefeed").text


def test_fact_22_a_store_is_one_create(client: httpx.Client) -> None:
    """A store gives Create/Current; storing it again is refused and gives no row."""
    file = part_10(dataset())
    assert post(client, "/v2/studies", file).status_code == 200
    again = post(client, "/v2/studies", file)
    assert again.status_code == 409
    assert again.json()["00081198"]["Value"][0]["00081197"] == {"vr": "US", "Value": [45070]}
    assert shapes(client) == [(1, "Create", "Current")]


def test_fact_23_a_delete_is_one_row_and_marks_the_earlier_ones(
    client: httpx.Client, archive: Archive
) -> None:
    """After a delete the Create reads Deleted, where and when it was."""
    archive.store(header())
    before = feed(client)[0]
    assert client.delete("/v2/studies/1.2.1").status_code == 204
    assert shapes(client) == [(1, "Create", "Deleted"), (2, "Delete", "Deleted")]
    after = feed(client)[0]
    assert {**before, "state": "Deleted"} == {**after, "metadata": before["metadata"]}


def test_fact_24_a_re_store_replaces_the_earlier_rows(
    client: httpx.Client, archive: Archive
) -> None:
    """After a re-store all rows carry the newest metadata, and only the last is Current."""
    archive.store(header(name="A^One"))
    archive.delete("1.2.1")
    archive.store(header(name="A^Two"))
    assert shapes(client) == [
        (1, "Create", "Replaced"),
        (2, "Delete", "Replaced"),
        (3, "Create", "Current"),
    ]
    names = [entry["metadata"]["00100010"]["Value"] for entry in feed(client)]
    assert names == [[{"Alphabetic": "A^Two"}]] * 3


def test_fact_25_a_bulk_update_is_one_update_per_instance_at_one_time(
    client: httpx.Client, archive: Archive
) -> None:
    """A bulk update gives one Update for each live instance, all with one timestamp."""
    for place in (1, 2, 3):
        archive.store(header(sop=place), at=TEN)
    archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.3", at=TEN)
    changed = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^Two"}]}}
    body = {"studyInstanceUids": ["1.2.1"], "changeDataset": changed}
    assert client.post("/v2/studies/$bulkUpdate", json=body).status_code == 202
    updates = [entry for entry in feed(client) if entry["action"] == "Update"]
    assert [entry["sopInstanceUid"] for entry in updates] == ["1.2.1.1.1", "1.2.1.1.2"]
    assert len({entry["timestamp"] for entry in updates}) == 1
    assert {entry["state"] for entry in updates} == {"Current"}
    assert feed(client)[0]["metadata"]["00100010"] == changed["00100010"]


def test_fact_26_deleting_a_study_is_one_delete_per_live_instance(
    client: httpx.Client, archive: Archive
) -> None:
    """Deleting a study gives a Delete for each instance that lives, with one timestamp."""
    for series in (1, 2):
        for place in (1, 2):
            archive.store(header(series=series, sop=place), at=TEN)
    archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.1", at=TEN)
    assert client.delete("/v2/studies/1.2.1").status_code == 204
    deletes = [entry for entry in feed(client) if entry["action"] == "Delete"]
    gone = [entry["sopInstanceUid"] for entry in deletes]
    assert gone == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1", "1.2.1.2.2"]
    assert len({entry["timestamp"] for entry in deletes[1:]}) == 1


def test_fact_27_rows_never_vanish_nor_move(client: httpx.Client, archive: Archive) -> None:
    """Whatever is written later, an entry keeps its place, key, action and timestamp."""
    fixed = WITHOUT_METADATA[:-1]

    def rows() -> list[list[Any]]:
        return [[entry[name] for name in fixed] for entry in feed(client)]

    seen: list[list[Any]] = []
    for step in (
        lambda: archive.store(header(sop=1)),
        lambda: archive.store(header(sop=2)),
        lambda: archive.update(["1.2.1"], {"00081030": {"vr": "LO", "Value": ["new"]}}),
        lambda: archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.1"),
        lambda: archive.store(header(sop=1)),
        lambda: archive.expire("1.2.1", "1.2.1.1", "1.2.1.1.2"),
        lambda: archive.delete("1.2.1"),
    ):
        step()
        assert rows()[: len(seen)] == seen
        seen = rows()
    assert len(seen) == 7


def test_fact_28_data_partitions_are_independent(client: httpx.Client) -> None:
    """The same UIDs live in several data partitions; the feed is one for all of them."""
    file = part_10(dataset())
    for path in ("", "/partitions/north", "/partitions/south"):
        assert post(client, f"/v2{path}/studies", file).status_code == 200
    assert client.delete("/v2/partitions/north/studies/1.2.1").status_code == 204
    rows = [(entry["partitionName"], entry["action"], entry["state"]) for entry in feed(client)]
    assert rows == [
        ("Microsoft.Default", "Create", "Current"),
        ("north", "Create", "Deleted"),
        ("south", "Create", "Current"),
        ("north", "Delete", "Deleted"),
    ]
    assert client.get("/v2/partitions/north/changefeed").status_code == 404
    listed = client.get("/v2/partitions").json()
    assert [one["PartitionName"] for one in listed] == ["Microsoft.Default", "north", "south"]


def test_a_service_without_data_partitions_does_not_list_them(client: httpx.Client) -> None:
    """As the real one, whose feature is off: 400."""
    assert client.get("/v2/partitions").status_code == 400


def test_fact_30_bulk_data_is_removed_at_every_depth(client: httpx.Client) -> None:
    """OB OD OF OL OV OW UN never arrive, nor a BulkDataURI or InlineBinary in their place."""
    made = dataset()
    item = dataset()
    for place, vr in enumerate(("OB", "OD", "OF", "OL", "OV", "OW", "UN")):
        for target in (made, item):
            target.add_new(0x00091001 + place, vr, b"\x01\x02\x03\x04\x05\x06\x07\x08")
    item.InstanceNumber = 7
    made.ReferencedSeriesSequence = [item]
    assert post(client, "/v2/studies", part_10(made)).status_code == 200
    metadata = feed(client)[0]["metadata"]
    assert not [tag for tag in metadata if tag.startswith("0009")]
    nested = metadata["00081115"]["Value"][0]
    assert not [tag for tag in nested if tag.startswith("0009")]
    assert nested["00200013"] == {"vr": "IS", "Value": [7]}
    text = client.get("/v2/changefeed").text
    assert "InlineBinary" not in text
    assert "BulkDataURI" not in text


def test_fact_31_numbers_have_their_forms(client: httpx.Client) -> None:
    """IS, DS, SV and UV are JSON numbers; FL and FD may be words; empty has no Value."""
    made = dataset()
    made.InstanceNumber = 1
    made.add_new(0x00280030, "DS", ["1.0", "1.0"])
    made.add_new(0x0009_1001, "FD", [float("nan"), float("inf"), float("-inf"), 0.5])
    made.add_new(0x0009_1002, "SV", -(2**63))
    made.add_new(0x0009_1003, "UV", 2**64 - 1)
    made.add_new(0x0009_1004, "FL", 0.1)
    made.add_new(0x0009_1005, "AT", 0x0020000D)
    made.SeriesDate = ""
    assert post(client, "/v2/studies", part_10(made)).status_code == 200
    text = client.get("/v2/changefeed").text
    for expected in (
        '"00200013":{"vr":"IS","Value":[1]}',
        '"00280030":{"vr":"DS","Value":[1.0,1.0]}',
        '"00091001":{"vr":"FD","Value":["NaN","Infinity","-Infinity",0.5]}',
        '"00091002":{"vr":"SV","Value":[-9223372036854775808]}',
        '"00091003":{"vr":"UV","Value":[18446744073709551615]}',
        '"00091004":{"vr":"FL","Value":[0.1]}',
        '"00091005":{"vr":"AT","Value":["0020000D"]}',
        '"00080021":{"vr":"DA"}',
    ):
        assert expected in text


def test_fact_31_a_value_that_does_not_parse_makes_all_of_them_text(client: httpx.Client) -> None:
    """One bad value, and the whole element is served as strings."""
    made, item = dataset(), dataset()
    # At depth the service finds it invalid too, but drops at the top level only.
    item.add_new(0x00101020, "LO", "1.0\\tall")
    made.ReferencedSeriesSequence = [item]
    file = part_10(made).replace(b"\x10\x00\x20\x10LO", b"\x10\x00\x20\x10DS")
    assert post(client, "/v2/studies", file).status_code == 202
    nested = feed(client)[0]["metadata"]["00081115"]["Value"][0]
    assert nested["00101020"] == {"vr": "DS", "Value": ["1.0", "tall"]}


def test_fact_32_latest_differs_between_versions_when_order_inverts(
    client: httpx.Client, archive: Archive
) -> None:
    """Version 1 answers the greatest sequence, version 2 the greatest timestamp."""
    archive.store(header(sop=1), at=TEN + 1)
    archive.store(header(sop=2), at=TEN)
    assert client.get("/v1/changefeed/latest").json()["sequence"] == 2
    assert client.get("/v2/changefeed/latest").json()["sequence"] == 1
    archive.store(header(sop=3), at=TEN + 1)
    assert client.get("/v2/changefeed/latest").json()["sequence"] == 3


def test_fact_34_answers_have_their_headers(client: httpx.Client, archive: Archive) -> None:
    """JSON is JSON whatever is accepted; versions and the date are named; no ETag, no Link."""
    archive.store(header())
    for path in ("/v2/changefeed", "/v1/changefeed", "/v2/changefeed/latest"):
        answer = client.get(path, headers={"accept": "application/dicom+json"})
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert "2" in answer.headers["api-supported-versions"]
        assert re.fullmatch(r"\w{3}, \d{2} \w{3} \d{4} [\d:]{8} GMT", answer.headers["date"])
        assert not {"etag", "link", "retry-after"} & set(answer.headers)
