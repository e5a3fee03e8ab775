"""Makes untrusted text, such as names of files and classes, safe to print, to log and to put into a table."""

import re
from typing import Final

__all__ = ["as_cell", "printable"]

# A spreadsheet computes a cell that begins with one of these; some also accept the full-width forms.
_FORMULA: Final = re.compile(r"""(^|[,;|:\t"'])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212])""")


def printable(text: str) -> str:
    """Returns a text in one line, with escapes for control characters that could move a cursor or forge a line."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def as_cell(text: str) -> str:
    """Returns a text that a spreadsheet never computes: an apostrophe precedes each place where a formula would begin.

    Source: OWASP, "CSV injection", https://owasp.org/www-community/attacks/CSV_Injection
    """
    return _FORMULA.sub(r"\1'", printable(text))
