"""Times ``keras_course.training.compare`` beside its alternatives, in one run.

    KERAS_BACKEND=torch python benchmarks/families.py
    python benchmarks/families.py --backend jax --runs 1 16 --rounds 5

The task: runs that differ in their learning rate, each with a 1-16-1 network with tanh on 1,024 points, Adam, and
batches of 32. It compares:

- ``compare``, all runs in one program;
- ``compare(vectorized=False)``, one run after the other;
- ``fit`` of this package, one run after the other;
- ``Model.fit`` of Keras with its defaults (except ``verbose=0`` and the shuffling), one run after the other.

Each is timed from the call to the result, including compilation: once with few epochs, where compilation dominates, and
once with more. All must reach the same losses. The candidates take turns; seconds are medians over the rounds, ratios
are medians of the ratios within each round.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.lesson import explain_errors

SAMPLES, BATCH_SIZE, EPOCHS = 1024, 32, (5, 50)


def contestants(rates: Sequence[float]) -> dict[str, Callable[[int], float]]:
    """Returns functions that take the number of epochs and return the last loss of the first run."""
    import keras
    import numpy as np

    from keras_course.datasets import noisy_points
    from keras_course.models import dense_regressor
    from keras_course.training import compare, evaluate, fit

    data, _ = noisy_points.load_data(count=SAMPLES)
    loss = "mean_squared_error"

    def together(epochs: int, *, vectorized: bool = True) -> float:
        family = compare(
            dense_regressor(hidden=(16,)),
            data,
            optimizer="adam",
            learning_rate=rates,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            vectorized=vectorized,
        )
        return float(next(iter(family.values())).epoch_losses[-1])

    def with_fit(epochs: int) -> float:
        models = []
        for rate in rates:
            models.append(dense_regressor(hidden=(16,)))
            settings = {"optimizer": keras.optimizers.Adam(rate), "loss": loss, "metrics": {}, "progress": False}
            fit(models[-1], data, data, epochs=epochs, batch_size=BATCH_SIZE, **settings)
        return evaluate(models[0], data, loss=loss, metrics={})["loss"]

    def with_keras(epochs: int) -> float:
        models = []
        for rate in rates:
            models.append(dense_regressor(hidden=(16,)))
            models[-1].compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
            models[-1].fit(*data, validation_data=data, epochs=epochs, batch_size=BATCH_SIZE, verbose=0)
        return float(np.mean((models[0].predict(data[0], verbose=0) - data[1]) ** 2))

    return {
        "compare": together,
        "compare, one after the other": lambda epochs: together(epochs, vectorized=False),
        "fit, one after the other": with_fit,
        "Keras' fit, one after the other": with_keras,
    }


def measure(runs: int, epochs: int, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each contestant in each round."""
    import numpy as np

    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        losses = []
        for name, train in contestants(np.geomspace(0.001, 0.03, runs).tolist()).items():
            started = time.perf_counter()
            losses.append(train(epochs))
            found.setdefault(name, []).append(time.perf_counter() - started)
        # Keras shuffles in another order; the others must agree
        if max(losses[:3]) - min(losses[:3]) > 1e-3 or abs(losses[3] - losses[0]) > 0.1:
            raise CourseError(f"the contestants end at different losses {losses}: they have not done the same work")
    return found


def main() -> None:
    """Prints the table."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 16], help="sizes of the family")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    check_positive(rounds=options.rounds, **{f"runs[{i}]": runs for i, runs in enumerate(options.runs)})
    backend = select.use(options.backend).backend
    print(f"{backend}: {SAMPLES} samples, batches of {BATCH_SIZE}, {options.rounds} rounds")
    print(f"{'':<32} {'runs':>4} {'epochs':>6} {'seconds':>8} {'compare is faster by':>21}")
    for runs in options.runs:
        for epochs in EPOCHS:
            found = measure(runs, epochs, options.rounds)
            for name, seconds in found.items():
                ratio = median(other / ours for ours, other in zip(found["compare"], seconds, strict=True))
                print(f"{name:<32} {runs:>4} {epochs:>6} {median(seconds):>8.2f} {ratio:>21.2f}")


if __name__ == "__main__":
    main()
