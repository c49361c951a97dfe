"""The line on stderr while a command works: only in a terminal, and never on stdout."""

import pytest
from rich.status import Status

from dicom_assets.commands.progress import working


def test_the_line_says_how_far_a_command_has_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, so that JSON stays JSON."""
    texts: list[str] = []
    monkeypatch.setattr(Status, "update", lambda _, text: texts.append(text))
    monkeypatch.setenv("FORCE_COLOR", "1")
    with working("asking the service", "looked through {:,} of {:,} entries") as progress:
        progress(20_000, 1_000_000)
    output = capsys.readouterr()
    assert texts == ["looked through 20,000 of 1,000,000 entries"]
    assert "asking the service" in output.err
    assert output.out == ""


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe or a log there is no terminal."""
    with working("asking the service") as progress:
        progress("still asking")
    assert capsys.readouterr() == ("", "")
