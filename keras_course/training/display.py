"""The progress bar and the lines that `fit` prints."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Shows a progress bar during an epoch and prints a line after it; nothing if ``shown`` is False."""

    def __init__(self, epochs: int, steps: int | None, *, shown: bool) -> None:
        self._epochs, self._steps, self._shown = epochs, steps, shown
        self._console = Console()
        self._bar: Progress | None = None

    @property
    def has_bar(self) -> bool:
        """Whether a progress bar is visible."""
        return self._bar is not None and not self._bar.disable

    @contextmanager
    def epoch(self, number: int) -> Iterator[None]:
        """Shows the bar while an epoch runs."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
        texts = (TextColumn("{task.fields[numbers]}"), TimeRemainingColumn())
        hidden = not (self._shown and self._console.is_terminal)
        bar = Progress(*columns, *texts, console=self._console, transient=True, disable=hidden)
        with bar:
            bar.add_task(f"epoch {number + 1}/{self._epochs}", total=self._steps, numbers="")
            self._bar = bar
            yield

    def advance(self, count: int, numbers: Mapping[str, float]) -> None:
        """Advances the bar by some steps and shows the latest numbers."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=count, numbers=_joined(numbers))

    def report(self, row: Mapping[str, float]) -> None:
        """Prints the results of an epoch."""
        if self._shown:
            numbers = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
            head = f"epoch {row['epoch']:>{len(str(self._epochs))}}/{self._epochs}"
            text = f"{head}  {_joined(numbers)}  {row['seconds']:.1f} s"
            self._console.print(text, highlight=False, soft_wrap=True)


def _joined(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
