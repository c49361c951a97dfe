"""`dicom-assets alerts test`: every channel is told once, and what is missing is said."""

from pathlib import Path

from dicom_assets_tests.support.command import complaint, run, told
from dicom_assets_tests.support.sinks import http_sink

SECRET = "s3cr3t"


def test_every_channel_is_told_once_with_its_readers(tmp_path: Path) -> None:
    """One that serves two readers gets one message; the monitor is asked too."""
    with http_sink() as sink:
        said = told(
            tmp_path,
            *("alerts", "test"),
            DICOM_ALERTS=f"json://{sink.address}/{SECRET}",
            DICOM_ALERTS_DATA=f"json://{sink.address}/data/{SECRET}",
            DICOM_HEARTBEAT_URL=f"{sink.url}/{SECRET}",
        )
    assert said.splitlines() == [
        "DICOM_ALERTS 1 (json), for PACS administrator, data engineer: taken",
        "DICOM_ALERTS_DATA 1 (json), for researchers: taken",
        "DICOM_HEARTBEAT_URL: taken",
    ]
    messages = {body["message"] for body in sink.bodies if body}
    assert len(sink.taken) == 3
    assert all(text.startswith("This is a test, nothing is wrong.") for text in messages)


def test_a_channel_that_does_not_take_it_is_named_and_the_others_are_told(tmp_path: Path) -> None:
    """By its variable; the command ends with one."""
    with http_sink() as sink:
        done = run(
            tmp_path,
            *("alerts", "test"),
            DICOM_ALERTS=f"json://127.0.0.1:9/{SECRET} json://{sink.address}",
            DICOM_HEARTBEAT_URL=f"http://127.0.0.1:9/{SECRET}",
        )
    everybody = "for PACS administrator, data engineer, researchers"
    assert done.stdout.splitlines() == [
        f"DICOM_ALERTS 1 (json), {everybody}: NOT TAKEN",
        f"DICOM_ALERTS 2 (json), {everybody}: taken",
        "DICOM_HEARTBEAT_URL: NOT TAKEN",
    ]
    assert (done.returncode, done.stderr) == (1, "")
    assert len(sink.taken) == 1


def test_what_is_not_configured_is_said(tmp_path: Path) -> None:
    """Nobody is told of anything: that is no success."""
    done = run(tmp_path, "alerts", "test")
    assert done.returncode == 1
    for name in ("ALERTS_SERVICE", "ALERTS_PLATFORM", "ALERTS_DATA", "HEARTBEAT_URL"):
        assert f"set DICOM_{name}" in done.stdout


def test_an_address_that_is_none_is_refused_without_it(tmp_path: Path) -> None:
    """It holds secrets."""
    error = complaint(tmp_path, "alerts", "test", DICOM_ALERTS_SERVICE=f"slack://{SECRET}")
    assert error.startswith("Error: DICOM_ALERTS_SERVICE: address 1 is not understood")
    assert SECRET not in error
