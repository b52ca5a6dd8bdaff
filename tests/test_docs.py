"""The documentation: it builds strictly, each page can be reached, its links lead somewhere, its Python compiles."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@every_page
def test_a_page_is_in_the_navigation(page: Path) -> None:
    """A page that nobody can reach is not there."""
    assert re.search(rf"\b{re.escape(page.name)}$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)


@every_page
def test_links_between_files_lead_somewhere(page: Path) -> None:
    """Also where a page is read in the repository, and not on the site."""
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    assert [target for target in targets if "://" not in target and not (DOCS / target).exists()] == []


@every_page
def test_python_in_a_page_compiles(page: Path) -> None:
    """People copy it."""
    for found in re.findall(r"^( *)```python\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        compile(textwrap.dedent(found[1]), str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """With the extra ``docs``: a broken link, anchor or reference is an error."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bluejay_ws" in (tmp_path / "site" / "reference" / "index.html").read_text("utf-8")
