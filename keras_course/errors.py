"""The one exception whose message is written for the person at the keyboard."""


class CourseError(ValueError):
    """Bad input, explained in one line: it names the argument, the value and the remedy.

    The command line prints it without a traceback and ends with exit code 2. In a script it is a
    ``ValueError`` like any other.

    Example:
        >>> raise CourseError("batch_size is 0; give a whole number from 1 up")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: batch_size is 0; give a whole number from 1 up
    """
