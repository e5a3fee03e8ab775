"""Arguments of other libraries: whether they are known, and their units."""

import numpy as np
import pytest

from keras_course.augmentation import Augmentation, Shear, Shift
from keras_course.errors import CourseError

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.25, ("fraction", 0.25)),
        (np.float32(0.25), ("fraction", 0.25)),
        (1.0, ("pixels", 1.0)),
        (2.5, ("pixels", 2.5)),
        (4, ("pixels", (0, 1, 2, 3))),
        (1, ("pixels", 0.0)),
        ([1, 0.5], ("pixels", (1, 0.5))),
        (np.array([0.1, 0.2]), ("fraction", (0.1, 0.2))),
        *((nothing, ("fraction", 0.0)) for nothing in (0, 0.0, None, False, np.False_, np.float64(0), [])),
    ],
    ids=repr,
)
def test_a_shift_has_its_unit(value, expected):
    unit, width = expected
    shift = (Shift(width=width, unit=unit),) if width else ()
    assert Augmentation.like_image_data_generator(width_shift_range=value).transforms == shift


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, 0), (20, 20), ((5, 10), (-10, -5)), ([5, 10, 0, 0], (-10, -5)), (np.array([-1, 2]), (-2, 1))],
    ids=repr,
)
def test_a_shear_of_torchvision_leans_the_other_way(value, expected):
    assert Augmentation.like_torchvision(shear=value).transforms == ((Shear(expected),) if expected else ())


@pytest.mark.parametrize(
    "settings",
    [
        {"featurewise_center": False, "samplewise_center": np.False_, "zca_whitening": 0, "zca_epsilon": 1e-3},
        {"rescale": 1.0},
        {"rescale": np.float32(1)},
        {"rescale": None},
        {"channel_shift_range": np.array(0.0)},
        {
            "data_format": "channels_last",
            "interpolation_order": np.int64(1),
            "dtype": np.float32,
            "validation_split": 0,
        },
    ],
    ids=str,
)
def test_what_does_nothing_is_taken(settings):
    augment = Augmentation.like_image_data_generator(**settings, seed=3)
    assert (augment.transforms, augment.seed) == ((), 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"featurewise_center": True},
        {"zca_whitening": np.True_},
        {"rescale": 1 / 255},
        {"rescale": np.array([0.0, 1.0])},
        {"interpolation_order": True + 1},
        {"dtype": "uint8"},
    ],
    ids=str,
)
def test_what_would_do_something_is_refused(settings):
    (name,) = settings
    with pytest.raises(CourseError, match=f"^{name} is .*, which has no counterpart here; leave it out"):
        Augmentation.like_image_data_generator(**settings)
