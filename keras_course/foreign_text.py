"""Makes untrusted text, such as names of files and classes, safe to print, to log and to put into a table."""

import re
from typing import Final

__all__ = ["as_cell", "printable"]

# A spreadsheet computes a cell that begins with one of these; some also accept the full-width forms.
_FORMULA: Final = re.compile(r"""(^|[,;|:\t"'])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212])""")


def printable(text: str) -> str:
    r"""Returns a text in one line, with escapes for control characters that could move a cursor or forge a line.

    Args:
        text: Any text, including file names that are not valid Unicode.

    Returns:
        The text with every unprintable character replaced by its escape sequence.

    Example:
        >>> print(printable("cat\x1b[2J\n.jpg"))
        cat\x1b[2J\n.jpg
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def as_cell(text: str) -> str:
    """Returns a text that a spreadsheet shows as text and never computes, whatever separator it uses.

    Args:
        text: Any text.

    Returns:
        The text of ``printable``, with an apostrophe before each place where a formula would begin.

    Example:
        >>> as_cell("=1+1"), as_cell("ann;=1+1"), as_cell("ann-lee")
        ("'=1+1", "ann;'=1+1", 'ann-lee')

    Source: OWASP, "CSV injection", https://owasp.org/www-community/attacks/CSV_Injection
    """
    return _FORMULA.sub(r"\1'", printable(text))
