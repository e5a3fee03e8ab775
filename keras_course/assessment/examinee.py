"""The process in which a learner's model is opened and answers.

It speaks JSON, a line at a time: it says what the model takes and what it calls its classes, waits until there are
pictures in the folder that it has been given, and leaves logits beside them. It is told neither labels nor names.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from keras_course.cards import ModelCard, Shape
from keras_course.deployment.runtimes import open_model
from keras_course.errors import CourseError
from keras_course.files import replacing
from keras_course.preprocessing import PictureFormat

__all__ = ["LOGITS", "NO_CARD", "PICTURES"]

PICTURES: Final = "pictures.npy"
LOGITS: Final = "logits.npy"
NO_CARD: Final = "a model without a card"
_BATCH_SIZE: Final = 32
_LARGEST_FILE: Final = 2**31


def main(arguments: Sequence[str]) -> None:
    """Opens a model and answers.

    Args:
        arguments: The model, the folder for pictures and logits, and how many threads to use, 0 for as many as
            it likes.
    """
    model, folder, threads = arguments
    _limit()
    # what a framework prints must not be taken for an answer
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    try:
        runtime = open_model(model, threads=int(threads) or None, default_card=card_by_the_rules)
        say(card=runtime.card.to_json(), format=runtime.format, runtime=runtime.name)
        sys.stdin.readline()
        pictures = np.load(Path(folder, PICTURES), mmap_mode="r", allow_pickle=False)
        starts = range(0, len(pictures), _BATCH_SIZE)
        logits = [runtime.logits(np.asarray(pictures[start : start + _BATCH_SIZE])) for start in starts]
        with replacing(Path(folder, LOGITS)) as file:
            np.save(file, np.concatenate(logits))
        say(done=True)
    except CourseError as error:
        say(error=str(error))


def card_by_the_rules(takes: Shape | None, gives: Shape | None) -> ModelCard:
    """Says how a model is used that does not say so itself: as the rules of the exam have it.

    Args:
        takes: The shape of a batch that it takes.
        gives: The shape of what it gives for one.

    Returns:
        Its card: pictures are stretched to its size, and its classes have numbers for names.

    Raises:
        CourseError: The shapes are not those of a classifier of pictures.

    Example:
        >>> card = card_by_the_rules((None, 224, 224, 3), (None, 6))
        >>> card.pictures.shape, card.class_names
        ((224, 224, 3), ('0', '1', '2', '3', '4', '5'))
    """
    if takes is None or len(takes) != 4 or not all(takes[1:]) or takes[3] not in (1, 3):
        raise CourseError(
            f"the model takes {_shown(takes)}; a model without a card takes pictures (height, width, 1 or 3 channels)"
        )
    if gives is None or len(gives) != 2 or not gives[1]:
        raise CourseError(f"the model gives {_shown(gives)} for a picture; it has to give one number for each class")
    height, width, channels = (int(side or 0) for side in takes[1:])
    pictures = PictureFormat(height=height, width=width, channels=channels, resize="stretch", interpolation="bilinear")
    return ModelCard(title=NO_CARD, class_names=[str(number) for number in range(gives[1])], pictures=pictures)


def _shown(shape: Shape | None) -> str:
    if shape is None:
        return "something else than one array"
    return f"({', '.join(str(side or 'any') for side in shape[1:])})"


def _limit() -> None:
    """Keeps a model from filling the disk, where the system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def start() -> None:
    """Begins the process."""
    from keras_course._backend import select

    select.apply_device("cpu")
    main(sys.argv[1:])
