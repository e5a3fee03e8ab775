"""Converts a collection of hand signs to the file that the lessons read, and checks it.

The collections are large or need an account, so download one by hand::

    python data_scripts/prepare_asl.py archive.zip            # Kaggle's sign-language-mnist, or a folder with its CSVs
    python data_scripts/prepare_asl.py asl-hg/data            # ASL-HG's parquet files; needs: pip install pyarrow
    python data_scripts/prepare_asl.py asl_processed          # its folders train and test, unpacked
    python data_scripts/prepare_asl.py asl_dataset --split grouped    # its raw photos, which have no parts
    python data_scripts/prepare_asl.py my_photos --own        # your own photos, a folder for each letter

It prints and checks the counts, and writes ``sign_mnist.npz`` into the cache folder (or ``--output``).
``--split grouped`` splits the pictures again, so that no person or series of near-copies is in both parts.

Origin and license: Sign Language MNIST, https://www.kaggle.com/datasets/datamunge/sign-language-mnist, CC0 as its page
states; ASL-HG, https://doi.org/10.17632/j4y5w2c8w9.1, CC BY 4.0.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_course.datasets import arrays, asl
from keras_course.errors import CourseError

# Pictures of the 24 letters in each collection: training, validation.
COLLECTIONS = {"Sign Language MNIST": (27_455, 7_172), "ASL-HG": (19_200, 4_800)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code: 0, or 2 for an error that the user can correct."""
    options = _parser().parse_args(arguments)
    try:
        signs = asl.read(options.source, split=options.split)
        _print_counts(signs)
        if not options.own:
            print(f"these are the pictures of {_collection(signs, options.split)}")
        file = options.output or asl.cache_file()
        arrays.save(file, signs)
        sha256 = arrays.content_sha256(signs)
        print(f"{file}: {file.stat().st_size:,} bytes; sha256 of all pictures and labels: {sha256}")
    except CourseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Convert hand signs to the file that the lessons read.")
    parser.add_argument("source", type=Path, help="Kaggle's zip or folder, ASL-HG's folder, .parquet, .npz, or photos")
    parser.add_argument(
        "--split", choices=asl.SPLITS, default="given", help="keep the source's parts, or split by group"
    )
    parser.add_argument("--own", action="store_true", help="your own pictures: print the counts without checking them")
    parser.add_argument("--output", type=Path, metavar="FILE", help="output file in place of that in the cache folder")
    return parser


def _print_counts(signs: asl.Signs) -> None:
    """Prints the number of pictures of each letter, and raises an error if a letter is missing."""
    for part, (_, labels) in zip(("train", "valid"), signs, strict=True):
        counts = np.bincount(labels, minlength=len(asl.CLASS_NAMES))
        each = ", ".join(f"{letter} {count:,}" for letter, count in zip(asl.CLASS_NAMES, counts, strict=True))
        print(f"{part}: {len(labels):,} pictures; {each}")
        if not counts.all():
            raise CourseError(f"{part} has no picture of {asl.CLASS_NAMES[counts.argmin()]}; add some")


def _collection(signs: asl.Signs, split: str) -> str:
    """Returns the collection with these numbers of pictures, in each part, or in total after a new split."""
    counts = (len(signs[0][1]), len(signs[1][1]))
    for name, known in COLLECTIONS.items():
        if counts == known or (split == "grouped" and sum(counts) == sum(known)):
            return name
    wanted = " or ".join(f"{train:,} + {valid:,} of {name}" for name, (train, valid) in COLLECTIONS.items())
    raise CourseError(
        f"there are {counts[0]:,} + {counts[1]:,} pictures; wanted are {wanted}; "
        "add --split grouped for a collection without parts, or --own for your own pictures"
    )


if __name__ == "__main__":
    sys.exit(main())
