"""The comparison runs where there is no backend; elsewhere there is nothing to compare yet."""

import os

collect_ignore = ["record.py"]
if "KERAS_COURSE_RECORDINGS" not in os.environ:
    collect_ignore += ["test_compare.py", "test_accuracies.py"]
