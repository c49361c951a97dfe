"""A test fails that leaves a patient's value. Few tests may show one, each by its name."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dicom_assets_tests.project.shape import Source, functions, names
from dicom_assets_tests.support.canary import EXEMPT, MARK, hits
from dicom_assets_tests.support.layout import ROOT, TESTS, sources

MAY_SHOW = {
    "commands/test_erasure.py": {
        "test_a_study_that_is_there_ends_with_one",
        "test_a_deleted_study_ends_with_one_until_nothing_holds_it",
        "test_the_same_facts_come_as_json",
        "test_a_study_that_nobody_knows_ends_with_zero",
        "test_an_hour_that_is_not_over_is_looked_at",
        "test_a_service_that_does_not_answer_is_said",
    },
    "commands/test_find.py": {
        "test_a_study_in_step_ends_with_zero",
        "test_a_uid_may_come_with_spaces",
        "test_a_deleted_study_ends_with_zero",
        "test_an_hour_that_was_not_read_ends_with_one_and_the_command",
        "test_json_gives_the_same_facts",
        "test_a_service_that_cannot_be_reached_is_said_and_not_fatal",
    },
    "defs/alerts/test_sensor.py": {"test_an_error_of_others_is_named_and_its_text_is_not_told"},
    "defs/test_canary_search.py": {"test_a_planted_value_is_found"},
}
"""The command is asked for a UID and repeats it; Dagster keeps the text of a planted error, which
an alert may not repeat; the search has to find something.
"""

INNER = f"""
import logging, os, subprocess, sys
import pytest
from dicom_assets_tests.support.canary import overhear

@pytest.fixture
def late():
    yield
    print("{MARK}teardown")

def test_silent(): print("1.13.27", "127.0.0.1")
def test_stdout(): print("{MARK}1")
def test_stderr(): os.write(2, b"{MARK}2")
def test_log(): logging.getLogger("a").warning("%s", "{MARK}3")
def test_child(): subprocess.run(["echo", "{MARK}4"], check=True)
def test_overheard(): overhear("fine", "{MARK}5")
def test_uid(): print("/studies/1.2.826.0.1.3680043.10.77.1/series")
def test_sample(): print("CompressedSamples^CT1")
def test_teardown(late): pass

@pytest.mark.{EXEMPT}("on purpose")
def test_shown(late): print("{MARK}6")

def test_home(tmp_path):
    folder = tmp_path / "history" / "runs"
    folder.mkdir(parents=True)
    (folder / "a.db-wal").write_bytes(b"\\0{MARK}home\\0")
"""
END = re.compile(r"^([A-Z]+) test_inner.py::test_(\w+)", re.MULTILINE)
LEAKING = ("stdout", "stderr", "log", "child", "overheard", "uid", "sample")
ENDED = {
    *(f"FAILED {name}" for name in LEAKING),
    *(f"PASSED {name}" for name in ("silent", "teardown", "shown", "home")),
    *("ERROR teardown", "ERROR home"),
}
"""Homes are searched after the last test of a process, so that one has the error."""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "workers"])
def test_a_test_that_leaves_a_value_fails(tmp_path: Path, options: Sequence[str]) -> None:
    """In any output of each phase, unless it is exempt. A home that holds one fails the session."""
    (tmp_path / "test_inner.py").write_text(INNER, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"]
    command += ["-p", "dicom_assets_tests.support.canary", "--strict-markers"]
    output = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'inner'}", *options, "test_inner.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    shutil.rmtree(tmp_path / "inner")  # before the homes of this session are searched
    assert {" ".join(end) for end in END.findall(output)} == ENDED, output[-5000:]
    for text in ("test_log leaves", "'Captured log call: ", "DAGSTER_HOMEs hold", "a.db-wal: "):
        assert text in output


@pytest.mark.parametrize(
    "text",
    [
        f"entry 7 of {MARK}a",
        b"\0\xff" + MARK.encode(),
        f"\ud800{MARK}",
        "https://service/v2/studies/1.3.6.1.4.35045.144617642844613360096093938825160119849/series",
        "5.1.2.826.0.1.3680043.10.77",
        "Name^Corrected",
        "Äneas^Rüdiger",
        r'"\u00c4neas^R\u00fcdiger"',
        "Anony Mous",
    ],
)
def test_a_value_is_known(text: str | bytes) -> None:
    """Made up, captured or from pydicom's files; in any script, as bytes, escaped."""
    assert len(hits(text)) == 1


def test_what_is_no_secret_is_not_found() -> None:
    """Times, addresses, versions, UIDs of the standard, and common words."""
    secretless = "2026-01-01T00:00:00.1234567Z, 127.0.0.1:8042, dagster 1.13.27.0.1, Anonymized"
    assert hits(f"{secretless}, 1.2.840.10008.5.1.4.1.1.7, sequence 12345678 of 2008-3") == []


def test_few_tests_show_patients(pytestconfig: pytest.Config) -> None:
    """Each by its name, and with a reason; no folder and no module at once."""
    exempt: dict[str, set[str]] = {}
    uses = 0
    for source in map(Source.read, sources(TESTS)):
        nodes = [n for n in ast.walk(source.tree) if isinstance(n, ast.Attribute)]
        uses += sum(node.attr == EXEMPT for node in nodes)
        for function in functions(source.tree):
            marks = [d for d in function.decorator_list if EXEMPT in names(d)]
            assert all(isinstance(d, ast.Call) and d.args for d in marks), "a reason is needed"
            if marks:
                place = source.path.relative_to(TESTS).as_posix()
                exempt.setdefault(place, set()).add(function.name)
    assert exempt == MAY_SHOW
    assert uses == sum(map(len, MAY_SHOW.values()))
    # The search is on, and pytest keeps the folders of passed tests until then.
    assert pytestconfig.getini("tmp_path_retention_policy") == "all"
    assert pytestconfig.pluginmanager.has_plugin("dicom_assets_tests.support.canary")
