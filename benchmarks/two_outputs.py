"""Times ``fit`` with a model that is not from the course: two outputs, two losses, and sample weights.

    KERAS_BACKEND=jax python benchmarks/two_outputs.py

784-256 with ReLU, then ten logits and one number, Adam at 0.001, an epoch over 10,000 random samples. It alternates
with ``Model.fit`` of Keras with its defaults, epoch by epoch, in the same process; the first epoch of each, which
compiles, does not count. It prints steps per second, as median (lowest .. highest) over the rounds, and the speed-up of
``fit``, as the median of the ratios within each round.
"""

import argparse
import statistics
import time

import keras
import numpy as np
from keras import layers

import keras_course  # noqa: F401 - chooses the backend, before Keras is imported
from keras_course.randomness import initialize
from keras_course.training import fit

SAMPLES = 10_000


def build() -> keras.Model:
    """Builds the model with two outputs."""
    inputs = keras.Input((784,))
    x = layers.Dense(256, activation="relu", name="hidden")(inputs)
    outputs = {"kind": layers.Dense(10, name="kind")(x), "size": layers.Dense(1, name="size")(x)}
    return initialize(keras.Model(inputs, outputs), seed=0)


def main() -> None:
    """Trains in turns, and prints the speeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="epochs that count (%(default)s)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128], metavar="N", help="(32 128)")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 784)).astype("float32")
    y = {"kind": random.integers(0, 10, SAMPLES), "size": random.normal(size=(SAMPLES, 1)).astype("float32")}
    weights = random.uniform(0.5, 2, SAMPLES).astype("float32")
    losses = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "mse"}
    print(f"{keras.backend.backend()}, steps a second")
    for batch_size in options.batch_sizes:
        steps = -(-SAMPLES // batch_size)
        theirs = build()
        theirs.compile(keras.optimizers.Adam(0.001), losses, loss_weights={"kind": 1.0, "size": 0.3})
        waits: list[float] = []  # seconds of Keras' epoch in each round

        class InTurn(keras.callbacks.Callback):
            """Trains an epoch with Keras before each epoch of ``fit``, which is timed separately."""

            def on_train_begin(self, logs: object = None, *, model: keras.Model = theirs) -> None:
                self.keras_epoch(model)

            def on_epoch_end(self, epoch: int, logs: object = None, *, model: keras.Model = theirs) -> None:
                self.ended.append(time.perf_counter())
                self.keras_epoch(model)
                self.started.append(time.perf_counter())

            def keras_epoch(self, model: keras.Model, waits: list[float] = waits, batch_size: int = batch_size) -> None:
                start = time.perf_counter()
                model.fit(x, y, sample_weight=dict.fromkeys(y, weights), batch_size=batch_size, verbose=0)
                waits.append(time.perf_counter() - start)

        watch = InTurn()
        watch.started, watch.ended = [], []
        history = fit(
            build(),
            (x, y, dict.fromkeys(y, weights)),
            optimizer=keras.optimizers.Adam(0.001),
            loss=losses,
            loss_weights={"kind": 1.0, "size": 0.3},
            batch_size=batch_size,
            epochs=options.rounds + 1,
            callbacks=[watch],
            progress=False,
        )
        ours = [end - start for start, end in zip(watch.started[:-1], watch.ended[1:], strict=True)]
        keras_seconds = waits[1:-1]
        ratios = [slow / fast for slow, fast in zip(keras_seconds, ours, strict=True)]
        columns = ((f"fit ({history.way})", ours), ("Keras' fit", keras_seconds))
        texts = []
        for name, seconds in columns:
            speeds = sorted(steps / second for second in seconds)
            texts.append(f"{name} {statistics.median(speeds):,.0f} ({speeds[0]:,.0f} .. {speeds[-1]:,.0f})")
        print(f"batch {batch_size}: {', '.join(texts)}, ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
