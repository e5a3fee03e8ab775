"""Pages for the browser that need nothing else: text, style, script and data in one document."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any


def assemble(folder: Path, *, scripts: Sequence[str], data: Any, allow: str = "img-src data:") -> str:
    """Puts a page together from ``page.html``, ``page.css``, its scripts and data.

    Its policy makes the browser enforce that no script runs but this one, and that nothing is fetched but what is
    allowed.

    Args:
        folder: Where the parts are. ``page.html`` has the places ``$policy``, ``$style``, ``$script`` and ``$data``.
        scripts: Names of files; one after the other they are one script.
        data: What the script finds as JSON.
        allow: What the content security policy lets through besides.

    Returns:
        The document, the same bytes each time.
    """
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in scripts)
    # The data are no script to the browser, so the policy has no word on them; "<" could still end their element.
    text = json.dumps(data, ensure_ascii=False, indent=1).replace("<", r"\u003c")
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        policy=f"default-src 'none'; {allow}; style-src {_hash(style)}; script-src {_hash(script)}",
        style=style,
        script=script,
        data=text,
    )


def _hash(text: str) -> str:
    """What a content security policy calls an inline element that it lets through."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
