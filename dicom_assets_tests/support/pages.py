"""The pages of the documentation, as tests read them."""

import re
from pathlib import Path

from dicom_assets_tests.support.layout import ROOT

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
"""Every page for people, at the root and below `docs/`."""


def text_of(path: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code in a page that are in a language."""
    pattern = rf"^```{language}\n(.*?)^```$"
    code: list[str] = re.findall(pattern, page, re.MULTILINE | re.DOTALL)
    return code


def headings(page: Path) -> set[str]:
    """Return the headings of a page, as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links that are inside the project, as written."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]
