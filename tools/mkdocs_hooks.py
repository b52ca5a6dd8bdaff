"""Hooks of the documentation site: links out of ``docs`` lead to the repository, and have to exist there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(\.\./([^)#\s]+)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Turn ``](../examples/agent.py)`` into a link to the repository.

    Raises:
        FileNotFoundError: there is no such file.
    """

    def to_repository(link: re.Match[str]) -> str:
        if not (ROOT / link[1]).exists():
            raise FileNotFoundError(f"{page.file.src_path} links to ../{link[1]}, which does not exist")
        return f"]({config.repo_url.rstrip('/')}/blob/main/{link[1]}"

    return LINK.sub(to_repository, markdown)
