"""Alerts under the real daemon: a failed run is told of, the monitor is asked, nothing leaks."""

import time
from pathlib import Path

import dagster as dg

from dicom_assets_tests.support.daemon import daemon
from dicom_assets_tests.support.history import FIRST
from dicom_assets_tests.support.processes import copy_home, environment
from dicom_assets_tests.support.sinks import Sink, http_sink
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import world

LOCATION = "dicom_assets_tests.support.locations.attentive"
SECRET = "s3cr3t-of-a-channel"
WAIT_SECONDS = 120


def _await(sink: Sink, count: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(sink.taken) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(sink.taken) >= count


def test_the_daemon_tells_of_a_failed_run_and_asks_the_monitor(
    own_service: Service, fresh_home: Path, tmp_path: Path
) -> None:
    """The code server has the addresses; neither the home nor what is said has them."""
    home = copy_home(fresh_home, tmp_path)
    own_service.answer = (403, b"")
    job = world(own_service, tmp_path / "tables").definitions.resolve_job_def("dicom_tables")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        job.execute_in_process(
            instance=instance,
            partition_key=FIRST,
            tags={"dicom_assets/attempt": "1"},
            raise_on_error=False,
        )
    with http_sink() as alerts, http_sink() as monitor:
        environ = environment(tmp_path, own_service) | {
            "DICOM_ALERTS": f"json://{alerts.address}/{SECRET}",
            "DICOM_HEARTBEAT_URL": f"{monitor.url}/{SECRET}",
        }
        with daemon(tmp_path, environ, LOCATION):
            _await(monitor, 2)
            _await(alerts, 1)
    (body,) = alerts.bodies
    assert "hours that are not in the tables (ServiceRefusedError)" in body["title"]
    said = (tmp_path / "daemon.log").read_text(encoding="utf-8")
    assert "dicom_alerts" in said
    assert SECRET not in said
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
