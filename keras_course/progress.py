"""A bar for a person who waits."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def with_progress_bar(steps: Iterable[T], total: int, unit: str) -> list[T]:
    """Goes through something that takes its time; the bar is shown to a person, on the error output, and vanishes.

    Args:
        steps: What to go through.
        total: How many there are.
        unit: What they are.

    Returns:
        All of them.

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
