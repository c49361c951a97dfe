"""Ten weeks of a made-up hospital, as rows of `series`, and the hours of `sync` that show them.

Only what the report reads is filled. Every device sends on the days and in the hours given, each
series of a patient of its own, unless the device has a pool of few.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import HOUR
from dicom_assets_tests.support.canary import MARK
from dicom_assets_tests.support.tables import DEFAULT, insert

DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
# A Monday at noon, as Berlin tells the time.
NOON = datetime(2026, 3, 2, 12, tzinfo=BERLIN).astimezone(UTC)
MARKS = [table.mark for table in (CHANGE, INSTANCE, SERIES, STUDY)]


@dataclass(frozen=True)
class Sender:
    """A device: series for each of its hours (by the clock of Berlin) of each of its weekdays.

    It sends for `days` days, the last of them `silent` days ago. `patients` are few, or None.
    """

    station: str | None
    modality: str
    institution: str | None = "North Clinic"
    hours: tuple[int, ...] = (7, 9, 11, 14, 17)
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    each: int = 4
    days: int = 70
    silent: int = 0
    patients: int | None = None
    values: Mapping[str, object] | None = None

    def series(self, until: datetime) -> Iterator[dict[str, object]]:
        """Its rows of `series`, received before a moment."""
        today = until.astimezone(BERLIN).replace(hour=0, minute=0, second=0, microsecond=0)
        for back in range(self.silent, self.silent + self.days):
            day = today - back * DAY
            for hour in self.hours if day.weekday() in self.weekdays else ():
                for n in range(self.each):
                    at = day + timedelta(hours=hour, minutes=1 + 50 * n // self.each)
                    if at < until:
                        yield self._row(at, f"{back}.{hour}.{n}")

    def _row(self, at: datetime, number: str) -> dict[str, object]:
        patient = number if self.patients is None else str(hash(number) % self.patients)
        uid = f"1.2.{sum(map(ord, f'{self.station}{self.institution}'))}.{number}"
        return {
            "partitionName": DEFAULT,
            "studyInstanceUid": uid,
            "seriesInstanceUid": f"{uid}.1",
            "patientId": f"{MARK}{self.station}-{patient}",
            "patientName": f"{MARK}Doe^{patient}",
            "stationName": self.station,
            "institutionName": self.institution,
            "modality": self.modality,
            "manufacturerModelName": "Model 7",
            "protocolName": "Head",
            "instanceCount": 30,
            "firstReceivedTimestamp": at.astimezone(UTC),
            "sequence": 1,
            **(self.values or {}),
        }


def filled(
    store: Store,
    senders: Iterable[Sender],
    until: datetime = NOON,
    without: Iterable[datetime] = (),
) -> None:
    """The tables hold what the senders sent, and show ten weeks of hours, some `without`."""
    rows = [row for sender in senders for row in sender.series(until)]
    hours = {until - n * HOUR for n in range(1, 10 * 168 + 1)} - set(without)
    insert(store, SERIES, rows)
    show_hours(store, hours, len(rows) * 30)


def show_hours(store: Store, hours: Iterable[datetime], images: int = 0) -> None:
    """All tables show these hours."""
    hours = list(hours)
    for table in (CHANGE, INSTANCE, SERIES, STUDY):
        if store.open(table).delta is None:
            store.create(table)
    each = images // max(1, len(hours))
    insert(
        store,
        store.tables[SYNC.name],
        (
            {
                "hour": hour,
                "windowStart": hour,
                "windowEnd": hour + HOUR,
                "creates": each,
                "deletes": 0,
                "updates": 0,
                "rejected": 0,
                "dataPartitions": "*",
                **dict.fromkeys(MARKS, hour + HOUR),
            }
            for hour in hours
        ),
    )
