"""Heat by occlusion, on pictures that a person can check."""

import numpy as np

from keras_course.deployment.occlusion import covered, heat_of


def test_each_copy_has_one_part_covered_and_the_last_none():
    copies = covered(np.array([[[0], [0], [9], [9]]], "uint8"), [0, 4], places=2)
    np.testing.assert_array_equal(copies[:, 0, :, 0], [[4, 4, 4, 9], [0, 0, 9, 9]])


def test_the_part_whose_cover_lowers_the_logit_is_hot():
    np.testing.assert_array_equal(heat_of([5, 5, 5, 1, 5], 2, 2), [[0, 0], [0, 1]])
