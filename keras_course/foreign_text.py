"""Text that others wrote, such as names of files and classes: made safe to print, to log and to put into a table."""

import re
from typing import Final

__all__ = ["as_cell", "printable"]

# A spreadsheet computes a cell that begins with one of these; some read the full-width forms alike.
_FORMULA: Final = re.compile(r"""(^|[,;|:\t"'])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212])""")


def printable(text: str) -> str:
    r"""Writes a text in one line and without control characters, which could move a terminal's cursor or forge a line.

    Args:
        text: Any text; names of files need not even be valid Unicode.

    Returns:
        The same text, with every character that cannot be printed written as its escape sequence.

    Example:
        >>> print(printable("cat\x1b[2J\n.jpg"))
        cat\x1b[2J\n.jpg
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def as_cell(text: str) -> str:
    """Makes a text that a spreadsheet shows and does not compute, whichever separator it splits the line at.

    Args:
        text: Any text.

    Returns:
        The text as ``printable`` writes it, with an apostrophe before each place that would begin a formula.

    Example:
        >>> as_cell("=1+1"), as_cell("ann;=1+1"), as_cell("ann-lee")
        ("'=1+1", "ann;'=1+1", 'ann-lee')

    Source: OWASP, "CSV injection", https://owasp.org/www-community/attacks/CSV_Injection
    """
    return _FORMULA.sub(r"\1'", printable(text))
