"""The Python in README.md and docs/ runs: each page from top to bottom, in one namespace.

What a page needs but no reader wants to see stands in an HTML comment that begins with `<!-- python`.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^(?:```python|<!-- python)\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda path: path.name)
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(), {"__name__": page.stem}
    for block in BLOCK.finditer(text):
        lines_above = text.count("\n", 0, block.start(1))  # so that an error names the line of the page
        exec(compile("\n" * lines_above + block[1], str(page), "exec"), names)
