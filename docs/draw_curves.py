"""Draws the picture of the first page: one seed, three backends, one loss curve.

    python docs/draw_curves.py [RECORDINGS]

RECORDINGS is a folder with ``jax.npz``, ``tensorflow.npz`` and ``torch.npz``, which ``tests/parity/record.py`` writes;
``tox`` leaves it as ``.tox/recordings``. The script writes ``curves.csv``, the losses, and ``curves.png`` beside it.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

from keras_course.plots.style import SERIES, count_in_whole_numbers, in_course_style, new_figure, save

HERE = Path(__file__).parent
BACKENDS = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}
RECORDED = "curves/tanh_dropout"
WIDTHS = (7.0, 3.6, 1.2)
"""Of the lines, from the first to the last one drawn: each stays visible below the next."""


def largest_difference(curves):
    """Returns the largest difference between the losses of two backends at the same step."""
    return max(np.abs(first - second).max() for first, second in itertools.combinations(curves.values(), 2))


@in_course_style
def draw(curves):
    """Returns a figure of the loss curves by backend."""
    figure = new_figure(9.0, 4.0)
    axes = figure.subplots()
    for (name, losses), width, color in zip(curves.items(), WIDTHS, (SERIES[5], SERIES[1], SERIES[2]), strict=True):
        steps = np.arange(1, len(losses) + 1)
        axes.plot(steps, losses, color=color, linewidth=width, label=BACKENDS[name], solid_joinstyle="round")
    steps, difference = len(steps), largest_difference(curves)
    axes.set(xlabel="training step", ylabel="loss of the batch (nats)", xlim=(0, steps + 1), ylim=(0, None))
    difference = f"{difference:.0e}".replace("e-0", "e-")
    axes.set_title(f"MNIST, one seed: over {steps} steps the losses differ by at most {difference}", loc="left")
    count_in_whole_numbers(axes.xaxis)
    axes.legend()
    return figure


def main(recordings):
    """Draws the curves in a folder of recordings, and writes their losses."""
    curves = {name: np.load(recordings / f"{name}.npz")[RECORDED].astype("float64") for name in BACKENDS}
    rows = zip(*curves.values(), strict=True)
    lines = [
        ",".join(("step", *curves)),
        *(",".join((str(n), *map("{:.9g}".format, row))) for n, row in enumerate(rows, 1)),
    ]
    (HERE / "curves.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    save(draw(curves), HERE / "curves.png")
    print(f"largest difference: {largest_difference(curves):.2g}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / ".tox" / "recordings"))
