"""Web pages that consist of one document with text, style, script and data."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any


def assemble(folder: Path, *, scripts: Sequence[str], data: Any, allow: str = "img-src data:") -> str:
    """Returns a web page, made of the parts that all pages share and of the files and data of a folder.

    The folder has a ``page.html``, with the title in the first line and then the body, a ``page.css`` and the scripts.
    The data is written as JSON into the element ``course``. With its content security policy, the browser runs only
    these scripts and loads only what ``allow`` adds. The same arguments give the same text.
    """
    shared = Path(__file__)
    style = _together(shared.with_suffix(".css"), folder / "page.css")
    script = _together(*(folder / name for name in scripts))
    title, _, body = _together(folder / "page.html").partition("\n")
    # the policy does not apply to data, but a "<" in it could end the element
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
    """Returns the hash of an inline element, by which a content security policy allows it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
