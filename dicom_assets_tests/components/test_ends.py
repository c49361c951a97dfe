"""Commands end as they should on a machine that is overloaded, again and again.

A script of a reader may not: a thread of Arrow drops an object of Python while Python ends. See
docs/use/readers.md, and `ended_early` in dicom_assets.cli. A test in commands/test_cli.py makes it
certain.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from dicom_assets_tests.support import command, demo

AT_ONCE: Final = 6
TIMES: Final = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has run."""
    folder = tmp_path_factory.mktemp("ends")
    demo.run_in(folder)
    return folder


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("sql", "SELECT count(*) AS rows FROM instance"), 0),
        (("sql", "SELECT nothing FROM study"), 1),
        (("status",), 0),
    ],
)
def test_a_command_ends_with_its_own_code(folder: Path, words: tuple[str, ...], code: int) -> None:
    """Twelve times, six at once: with its code, and with the same words."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        ended = [*threads.map(lambda _: command.run(folder, *words), range(TIMES))]
    assert Counter(done.returncode for done in ended) == {code: TIMES}
    assert len({done.stdout for done in ended}) == 1
