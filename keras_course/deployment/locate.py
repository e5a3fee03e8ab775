"""Where the file of a model is."""

from pathlib import Path

from keras_course.errors import CourseError
from keras_course.pretrained.names import NAMES

__all__ = ["find_model", "is_pretrained"]


def find_model(path: str | Path) -> Path:
    """Finds the file of a model: that of a run, or the one that is named.

    Args:
        path: The folder of a run, a model's file or folder in any format, or the name of a pre-trained model, which is
            then written to the cache if it is not there yet.

    Returns:
        Its path.

    Raises:
        CourseError: There is none, or it is a pipe or a device.

    Example:
        >>> find_model("runs/no_such_lesson")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no runs/no_such_lesson; give a run folder or the file of a model
    """
    try:
        found = Path(path).expanduser()
        if (found / "model.keras").is_file():
            return found / "model.keras"
        is_there = found.exists()
    except (OSError, RuntimeError):  # a name that is too long, a user who is not known
        is_there = False
    if not is_there:
        if is_pretrained(path):
            from keras_course.pretrained import model_file

            return model_file(str(path))
        raise CourseError(f"there is no {path}; give a run folder or the file of a model")
    if not found.is_dir() and not found.is_file():  # to open a pipe is to wait for somebody who writes into it
        raise CourseError(f"{path} is not a file; give a run folder or the file of a model")
    if found.is_dir() and (found / "checkpoint.npz").exists():
        raise CourseError(f"{path} holds a run that has not ended, and no model yet; go on with it by --resume")
    return found


def is_pretrained(path: str | Path) -> bool:
    """Says whether the name of a pre-trained model is given, and no file or folder of that name is there.

    Args:
        path: What was given for a model.

    Returns:
        Whether Keras is needed to find it.

    Example:
        >>> is_pretrained("efficientnet_lite0"), is_pretrained("runs/04_mnist_dense")
        (True, False)
    """
    return str(path) in NAMES and not Path(path).exists()
