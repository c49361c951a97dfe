"""The most memory of a window of many changes, step by step, each in a process of its own.

The service is one whose answers are counted out, not stored: entry `n` lies at the n-th tick of its
hour, so that a page is made from its numbers. The first hour holds a tenth as many instances. The
second one has the changes: nine in ten create an instance, the others update and delete those of
the first hour. Headers have .1 to 3.7 kB of text that compresses badly, beside their UIDs.

`python -m dicom_assets_tests.bench.memory 100000 1000000` prints MB above the base of the process
for each step. With `--http` the service is a process of its own, behind a socket.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import random
import re
import socketserver
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx

from dicom_assets.schema import SERIES, STUDY
from dicom_assets.tables.delta.retry import Run
from dicom_assets.window import HOUR, Window, format_timestamp, parse_timestamp
from dicom_assets_tests.bench.headers import ROOT_UID, dumped
from dicom_assets_tests.bench.measure import Measured
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.feeds import feed_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STEPS: Final = ("change", "instance", "series", "study")
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Instances of one study, and of one series.
PER_STUDY, PER_SERIES = 350, 70
TEXT_BYTES: Final = (100, 900, 2_200, 3_700)
# Of ten changes of the second hour: the one that is no Create. Of ten of those, so many updates.
_KINDS, _UPDATES = 10, 7
_PER_HOUR: Final = 36 * 10**9


def hour(number: int) -> Window:
    """Return the window of an hour of the service, 0 or 1."""
    return Window.between(START + number * HOUR, START + (number + 1) * HOUR)


class Service:
    """A change feed of two hours, the second one with `changes` entries."""

    def __init__(self, changes: int, *, hours: int = 2) -> None:
        """`hours` are those that have passed: an instance has the state of the last of them."""
        self._counts = (changes // _KINDS, changes)[:hours]
        self._noise = random.Random(13).randbytes(2**20).hex()

    def answer(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """Return the body of an answer, a page or the newest entry."""
        last = len(self._counts) - 1
        if path.endswith("/latest"):
            return self._entry(last, self._counts[last] - 1, has_header=False).encode()
        start, end = (
            parse_timestamp(parameters[n]) if n in parameters else default
            for n, default in (("startTime", 0), ("endTime", 2**62))
        )
        offset, limit = (int(parameters.get(n, d)) for n, d in (("offset", 0), ("limit", 200)))
        has_header = parameters.get("includeMetadata", "true") == "true"
        listed = list[str]()
        for at, count in enumerate(self._counts):
            first = hour(at).start
            step = _PER_HOUR // max(count, 1)
            low, high = (min(count, max(0, -((first - bound) // step))) for bound in (start, end))
            taken = range(low, high)[offset : offset + limit - len(listed)]
            offset = max(0, offset - (high - low))
            listed += [self._entry(at, number, has_header=has_header) for number in taken]
        return f"[{','.join(listed)}]".encode()

    def _entry(self, at: int, number: int, *, has_header: bool) -> str:
        before = self._counts[0]
        sequence = number + 1 if at == 0 else before + number + 1
        ticks = hour(at).start + number * (_PER_HOUR // max(self._counts[at], 1))
        instance, action, state = sequence, "Create", "Current"
        if at == 1 and number % _KINDS == 0:
            instance = number // _KINDS + 1
            is_update = instance % _KINDS < _UPDATES
            action, state = ("Update", "Current") if is_update else ("Delete", "Deleted")
        elif at == 0 and len(self._counts) > 1:
            state = "Replaced" if instance % _KINDS < _UPDATES else "Deleted"
        study = f"{ROOT_UID}.{instance // PER_STUDY}.20260101"
        series = f"{study}.{instance // PER_SERIES}"
        sop = f"{series}.{instance}"
        header = ""
        if has_header and state != "Deleted":
            size = TEXT_BYTES[sequence % len(TEXT_BYTES)]
            text = self._noise[sequence % (len(self._noise) - size) :][:size]
            values: dict[str, tuple[str, object]] = {
                "00080018": ("UI", sop),
                "0008103E": ("LO", f"PHI-{instance % 97}"),
                "00100020": ("LO", f"PHI-{instance // PER_STUDY}"),
                "0020000D": ("UI", study),
                "0020000E": ("UI", series),
                "00200013": ("IS", instance),
                "00204000": ("LT", text),
            }
            shown = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items()}
            header = f',"metadata":{dumped(shown)}'
        return (
            f'{{"sequence":{sequence},"studyInstanceUid":"{study}","seriesInstanceUid":"{series}",'
            f'"sopInstanceUid":"{sop}","action":"{action}","timestamp":"{format_timestamp(ticks)}",'
            f'"state":"{state}","partitionName":"Microsoft.Default"{header}}}'
        )


class _Transport(httpx.BaseTransport):
    """The service without a socket."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        parameters = dict(request.url.params)
        body = self._service.answer(request.url.path, parameters)
        return httpx.Response(200, content=body, headers={"Content-Type": "application/json"})


def measure(*sizes: int, over_http: bool = False) -> Iterator[Measured]:
    """Yield the most memory of each number of changes, in MB above the base, by step beside it."""
    for changes in sizes:
        with tempfile.TemporaryDirectory() as folder, _service(changes, over_http=over_http) as url:
            for name in STEPS:
                _in_process(folder, changes, 0, name, "")
            told = {name: _in_process(folder, changes, 1, name, url) for name in STEPS}
        peaks = {name: round(float(peak)) for name, (peak, _) in told.items()}
        seconds = {f"{name}_seconds": round(float(s)) for name, (_, s) in told.items()}
        yield Measured(f"peak_mb_{changes}", max(peaks.values()), {**peaks, **seconds})


@contextmanager
def _service(changes: int, *, over_http: bool) -> Iterator[str]:
    """Yield the address of the service, an empty one when each process has its own."""
    if not over_http:
        yield ""
        return
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(changes, there), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{here.recv()}"
    process.terminate()
    process.join()


def _serve(changes: int, told: Any) -> None:  # noqa: ANN401 - an end of a pipe
    service = Service(changes)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = service.answer(url.path, dict(parse_qsl(url.query)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    socketserver.TCPServer.request_queue_size = 64
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.send(server.server_address[1])
    server.serve_forever()


def _in_process(folder: str, changes: int, number: int, name: str, url: str) -> tuple[float, float]:
    # Spawned: a fork would begin with the memory of this process, and the engine has threads.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_step, args=(there, (folder, changes, number, name, url)))
    process.start()
    there.close()
    told: tuple[float, float] = here.recv()
    process.join()
    return told


def _step(told: Any, given: tuple[str, int, int, str, str]) -> None:  # noqa: ANN401 - an end of a pipe
    """Take one step of an hour; tell its most memory in MB above the base, and its seconds."""
    folder, changes, number, name, url = given
    service = Service(changes, hours=number + 1)
    others = {} if url else {"transport": _Transport(service)}
    store, run = steps.store_in(Path(folder)), Run("bench", START + timedelta(days=1))
    window = hour(number)
    with feed_of(url or "http://127.0.0.1:1", **others) as feed:
        gc.collect()
        base, began = _memory("VmRSS"), datetime.now(UTC)
        _reset_peak()
        if name == "change":
            steps.add_entries(store, window, feed, run)
        elif name == "instance":
            steps.follow_log(store, window, feed, run)
        else:
            steps.derive(store, {"series": SERIES, "study": STUDY}[name], window, run)
    seconds = (datetime.now(UTC) - began).total_seconds()
    told.send((_memory("VmHWM") - base, seconds))


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024


def main(arguments: list[str]) -> None:
    """Print the peaks of each number of changes."""
    sizes = [int(a) for a in arguments if a.isdigit()] or [100_000, 1_000_000]
    for measured in measure(*sizes, over_http="--http" in arguments):
        sys.stdout.write(f"{measured.name}: {json.dumps(measured.beside)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
