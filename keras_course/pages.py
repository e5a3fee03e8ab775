"""Pages for the browser that need nothing else: text, style, script and data in one document."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any


def assemble(folder: Path, *, scripts: Sequence[str], data: Any, allow: str = "img-src data:") -> str:
    """Puts a page together from what all pages share and its own ``page.html``, ``page.css``, scripts and data.

    Its policy makes the browser enforce that no script runs but this one, and that nothing is fetched but what is
    allowed.

    Args:
        folder: Where its own parts are. ``page.html`` has the title in its first line, and then what the body holds.
        scripts: Names of files; one after the other they are one script.
        data: What the script finds as JSON in the element ``course``.
        allow: What the content security policy lets through besides.

    Returns:
        The document, the same bytes each time.
    """
    shared = Path(__file__)
    style = _together(shared.with_suffix(".css"), folder / "page.css")
    script = _together(*(folder / name for name in scripts))
    title, _, body = _together(folder / "page.html").partition("\n")
    # The data are no script to the browser, so the policy has no word on them; "<" could still end their element.
    text = json.dumps(data, ensure_ascii=False, indent=1).replace("<", r"\u003c")
    return Template(_together(shared.with_suffix(".html"))).substitute(
        policy=f"default-src 'none'; {allow}; style-src {_hash(style)}; script-src {_hash(script)}",
        title=title,
        style=style,
        body=body.rstrip(),
        script=script,
        data=text,
    )


def _together(*files: Path) -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _hash(text: str) -> str:
    """What a content security policy calls an inline element that it lets through."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
