"""A progress bar on the terminal."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def with_progress_bar(steps: Iterable[T], total: int, unit: str) -> list[T]:
    """Collects the items of an iterable, and meanwhile shows a progress bar on stderr if it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        return list(progress.track(steps, total=total))
