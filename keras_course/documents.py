"""HTML documents that contain all their data, load nothing from the network and run no script."""

import base64
import html
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_course.errors import CourseError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
_CSS_PIXELS_PER_PIXEL = 96 / 120  # our figures have 120 dots per inch, a browser counts 96

_CSS = """
:root { color-scheme: light dark; --text: #1f2328; --quiet: #59636e; --line: #d9dee3; --page: #fff;
  --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --quiet: #9aa4af; --line: #363c44; --page: #15181c; --card: #1d2126; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 3rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0 0 .35rem; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .7rem; font-size: 1.25rem; }
p { max-width: 42rem; margin: 0 0 .8rem; overflow-wrap: anywhere; }
.summary { color: var(--quiet); font-size: 1.1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); column-gap: 3rem; }
.facts table { width: 100%; }
.facts th { width: 9.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem 1.1rem .38rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 500; color: var(--quiet); }
thead th { white-space: nowrap; }
td { overflow-wrap: anywhere; }
.numbers th:not(:first-child), .numbers td { text-align: right; white-space: nowrap; padding: .38rem 0 .38rem 1.6rem; }
pre { margin: 0; padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--card); border-radius: .5rem; }
code { font: .92rem/1.5 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
figure { margin: 0 0 2rem; }
img { display: block; max-width: 100%; height: auto; padding: .5rem; background: #fff; border: 1px solid var(--line);
  border-radius: .5rem; }
figcaption { margin-top: .5rem; max-width: 42rem; color: var(--quiet); overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet);
  font-size: .9rem; }
"""


class Html(str):
    """A string that is HTML already; ``element`` escapes all other strings."""

    __slots__ = ()


NOTHING = Html("")


def element(tag: str, *children: str, **attributes: str) -> Html:
    """Returns an element; texts inside are escaped, and attributes are written as ``aria_label`` and ``class_``."""
    inside = "".join(child if isinstance(child, Html) else html.escape(child) for child in children)
    named = {name.rstrip("_").replace("_", "-"): html.escape(value) for name, value in attributes.items()}
    opening = " ".join([tag, *(f'{name}="{value}"' for name, value in named.items())])
    return Html(f"<{opening}>" if tag in ("img", "source") else f"<{opening}>{inside}</{tag}>")


def section(heading: str, *children: str) -> Html:
    """Returns a section with a heading."""
    return element("section", element("h2", heading), *children)


def document(title: str, body: Iterable[str]) -> str:
    """Returns an HTML document with the elements of its body; the same arguments give the same text."""
    # With this policy the browser enforces that the page loads nothing and runs no script.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
{element("main", *body)}
</body>
</html>
"""


def number_table(header: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> Html:
    """Returns a table that can be scrolled sideways on a phone; the first cell of a row is its heading.

    ``name`` is the name of the table for screen readers.
    """
    head = element("thead", element("tr", *(element("th", cell, scope="col") for cell in header)))
    body = element(
        "tbody",
        *(
            element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
            for row in rows
        ),
    )
    table = element("table", head, body, class_="numbers")
    return element("div", table, class_="scroll", role="region", aria_label=name, tabindex="0")


def image(path: Path, caption: str) -> Html:
    """Embeds a PNG or GIF file; the caption is for screen readers."""
    width, height = _size(path)  # so that the browser reserves the space
    return element(
        "img",
        src=data_address(path),
        alt=caption,
        width=str(round(width * _CSS_PIXELS_PER_PIXEL)),
        height=str(round(height * _CSS_PIXELS_PER_PIXEL)),
    )


def data_address(path: Path) -> str:
    """Returns a PNG or GIF file as a data URL."""
    _size(path)  # checks that it is a picture
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _size(path: Path) -> tuple[int, int]:
    """Reads width and height from the first bytes of a PNG or GIF file."""
    kind = path.suffix[1:].upper()
    remedy = f"draw it with keras_course.plots.{'save' if kind == 'PNG' else 'save_animation'} before the report"
    if not path.is_file():
        raise CourseError(f"{path} is missing; {remedy}")
    with path.open("rb") as file:
        head = file.read(24)
    if kind == "PNG" and len(head) == 24 and head.startswith(_PNG_SIGNATURE):
        width, height = struct.unpack(">II", head[16:24])
    elif kind == "GIF" and len(head) >= 10 and head.startswith(_GIF_SIGNATURES):
        width, height = struct.unpack("<HH", head[6:10])
    else:
        raise CourseError(f"{path} is not a {kind} picture; {remedy}")
    return width, height
