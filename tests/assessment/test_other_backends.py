"""Grading a model on another backend than the one on which it was trained.

This needs all backends in one environment: `tox -e export`.
"""

import keras
import pytest

from keras_course._backend import select
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import grade
from keras_course.models import cnn_classifier

BACKEND = keras.backend.backend()
MISSING = [name for name in select.INSTALL if not select.is_installed(name)]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} is not installed; tox -e export has all")


@pytest.mark.parametrize("backend", select.INSTALL)
def test_the_grade_is_the_same_on_every_backend(tools, photos, tmp_path, backend):
    model = cnn_classifier(input_shape=tools.SIZE.shape, filters=(4, 8), dropout=0.2, dense=16, num_classes=3, seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")  # saves names of classes of this backend
    run = tools.save_run(tmp_path / "run", model)
    graded = grade(run, Exam(folder=photos), backend=backend)
    assert backend in graded.runtime
    here = grade(run, Exam(folder=photos), backend=BACKEND)
    assert BACKEND in here.runtime
    assert graded.confusion_matrix == here.confusion_matrix
    assert [mistake.photo for mistake in graded.mistakes] == [mistake.photo for mistake in here.mistakes]
