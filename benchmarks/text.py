"""Times the training of the course's LSTM net beside its alternatives, and generation by a Transformer, in one run.

    KERAS_BACKEND=torch python benchmarks/text.py
    python benchmarks/text.py --backend jax --rounds 11 --profile --json jax.json

The net reads 28 words (embedding of 10, LSTM of 100) and predicts the next one of 11,753: 1,348,983 parameters,
batches of 128, Adam at 0.001. An epoch has 50 batches. The words are drawn with the frequencies of a text (Zipf's
law), and half of the sentences are shorter and padded on the left. There is no dropout here, since each framework draws
its own.

The contestants, their turns and the check of the losses are those of ``training.py``; the loops by hand are in
``hand_written_text_<backend>.py``.

Then a causal Transformer (two blocks of 64, vocabulary of 8,000, 32 positions) writes 100 words, 11 times: the text is
longer than the model, which reads again the words that it keeps.
"""

import time
from multiprocessing.connection import Connection

import numpy as np
from training import FIT, SEED, SPAWN, Contestant, Net, Spread, compare, hand_written, model_fit, parse_arguments

from keras_course.lesson import explain_errors

WORDS, POSITIONS, BATCH, STEPS = 11_753, 28, 128, 50


def load_words() -> tuple[np.ndarray, np.ndarray]:
    """Sentences (n, positions) and the word after each."""
    draw = np.random.default_rng(SEED)
    shares = 1 / np.arange(3, WORDS)
    words = draw.choice(np.arange(3, WORDS), (STEPS * BATCH, POSITIONS + 1), p=shares / shares.sum()).astype("int32")
    padded = np.arange(POSITIONS) < draw.integers(-POSITIONS, POSITIONS, (len(words), 1))
    return np.where(padded, 0, words[:, :-1]).astype("int32"), words[:, -1].copy()


NET = Net(
    builder="recurrent_language_model",
    arguments={"vocabulary_size": WORDS, "sequence_length": POSITIONS, "dropout": 0.0},
    data=load_words,
    hand_written="hand_written_text",
)
CONTESTANTS: dict[str, list[Contestant]] = {
    "jax": [
        FIT,
        hand_written("scan"),
        hand_written("scan, unrolled"),
        hand_written("one call a step"),
        hand_written("one call a step, unrolled"),
        model_fit(),
    ],
    "tensorflow": [
        FIT,
        hand_written("XLA step, scan"),
        hand_written("XLA step, unrolled"),
        hand_written("graph step, unrolled"),
        hand_written("loop in XLA, scan", is_extra=True),
        # of a word that repeats in a batch, Keras adds the squares of its gradients here, and not their sum's
        model_fit(losses_are_checked=False),
        model_fit(jit_compile=True, steps_per_execution=20, losses_are_checked=False),
    ],
    "torch": [
        FIT,
        hand_written("eager"),
        hand_written("compiled"),
        model_fit(),
        model_fit(jit_compile=True),
    ],
}


def write_words(rounds: int, connection: Connection) -> None:
    """Sends the seconds of compiling, and of writing 100 words in each round."""
    from keras_course.generation import Writer
    from keras_course.models import causal_language_model
    from keras_course.preprocessing.text_format import TextFormat

    vocabulary = ("[PAD]", "[UNK]", "[END]", *(f"word{number}" for number in range(3, 8000)))
    format = TextFormat(unit="words", vocabulary=vocabulary, sequence_length=32, padding="right")
    model = causal_language_model(vocabulary_size=8000, sequence_length=32, seed=SEED)
    started = time.perf_counter()
    writer = Writer(model, format)
    next(writer.write())
    compiling, seconds = time.perf_counter() - started, []
    for seed in range(rounds):
        started = time.perf_counter()
        count = sum(1 for _ in writer.write(length=100, seed=seed))  # a text may end before
        seconds.append((time.perf_counter() - started) * 100 / count)
    connection.send((compiling, seconds))


def main() -> None:
    """Runs the benchmark."""
    explain_errors()
    arguments = parse_arguments(__doc__, [BATCH])
    compare(NET, CONTESTANTS, arguments)
    outer, inner = SPAWN.Pipe()
    writing = SPAWN.Process(target=write_words, args=(arguments.rounds, inner))
    writing.start()
    inner.close()
    compiling, seconds = outer.recv()
    writing.join()
    print(f"the Transformer writes 100 words in {Spread.of(seconds):.2f} s, after compiling for {compiling:.1f} s")


if __name__ == "__main__":
    main()
