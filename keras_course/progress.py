"""A progress bar on the terminal."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def with_progress_bar(steps: Iterable[T], total: int, unit: str) -> list[T]:
    """Collects the items of an iterable, and meanwhile shows a progress bar on stderr if it is a terminal.

    Args:
        steps: The items.
        total: Number of items.
        unit: Name of the items, such as "photos".

    Returns:
        All items.

    Example:
        >>> with_progress_bar(iter("abc"), 3, "letters")
        ['a', 'b', 'c']
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        return list(progress.track(steps, total=total))
