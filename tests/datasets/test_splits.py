"""Near-copies, groups and class weights, each against its definition; test_photo_folder.py has the stratified split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_course.datasets import splits
from keras_course.datasets.splits import class_weights
from keras_course.errors import CourseError


class TestNearCopies:
    def naive(self, images, labels, threshold):
        """The definition: the correlation of each pair, and the components of the graph by walking through it."""
        flat = np.asarray(images, float).reshape(len(images), -1)
        groups = [-1] * len(flat)
        for start in range(len(flat)):
            if groups[start] >= 0:
                continue
            waiting, number = [start], max(groups) + 1
            while waiting:
                here = waiting.pop()
                groups[here] = number
                for there in range(len(flat)):
                    comparable = labels[here] == labels[there] and flat[here].std() > 0 and flat[there].std() > 0
                    if groups[there] < 0 and comparable and np.corrcoef(flat[here], flat[there])[0, 1] > threshold:
                        waiting.append(there)
        return groups

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**31), threshold=st.sampled_from([0.3, 0.6, 0.9]), rows=st.sampled_from([1, 3, 64]))
    def test_it_is_what_the_definition_says(self, seed, threshold, rows):
        random = np.random.default_rng(seed)
        originals = random.integers(0, 256, (4, 3, 3))
        images = originals[random.integers(0, 4, 25)] + random.integers(-60, 60, (25, 3, 3))
        images[:2] = 7  # of a single color
        labels = random.integers(0, 2, 25)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(splits, "_ROWS_AT_A_TIME", rows)
            assert splits.near_copies(images, labels, threshold=threshold).tolist() == self.naive(
                images, labels, threshold
            )
            every = splits.near_copies(images.astype("uint8"), threshold=threshold)
            assert every.tolist() == self.naive(images.astype("uint8"), [0] * 25, threshold)

    def test_a_chain_of_copies_is_one_series(self):
        """A bar that moves by one pixel a frame: the neighbors are alike, the first and the last are not."""
        film = np.zeros((12, 1, 40))
        for frame in range(12):
            film[frame, 0, frame : frame + 20] = 255
        correlation = np.corrcoef(film[0, 0], film[11, 0])[0, 1]
        assert correlation < 0.5 < 0.85 < np.corrcoef(film[0, 0], film[1, 0])[0, 1]
        assert splits.near_copies(film, threshold=0.85).tolist() == [0] * 12
        assert splits.near_copies(film[[0, 11, 1, 10]], threshold=0.85).tolist() == [0, 1, 0, 1]
        shuffled = np.random.default_rng(0).permutation(12)
        assert splits.near_copies(film[shuffled], threshold=0.85).tolist() == [0] * 12

    def test_brightness_and_contrast_do_not_matter(self):
        image = np.random.default_rng(0).integers(40, 120, (28, 28))
        assert splits.near_copies([image, image * 2 + 5, 255 - image, image // 2]).tolist() == [0, 0, 1, 0]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"images": np.zeros(4)}, r"images have the shape \(4,\)"),
            ({"images": np.zeros((0, 28, 28))}, r"images have the shape \(0, 28, 28\)"),
            ({"images": 3}, r"images have the shape \(\)"),
            (
                {"images": np.zeros((4, 2)), "labels": [0, 1]},
                r"labels have the shape \(2,\); give one for each of the 4",
            ),
            ({"images": np.zeros((4, 2)), "threshold": 1.0}, r"threshold is 1.0; give a correlation between 0 and 1"),
            ({"images": np.zeros((4, 2)), "threshold": float("nan")}, "threshold is nan"),
        ],
    )
    def test_bad_input(self, arguments, message):
        with pytest.raises(CourseError, match=message):
            splits.near_copies(**arguments)


class TestHasNearCopy:
    def test_says_it_of_each_validation_picture(self):
        first, second, third = np.random.default_rng(0).integers(40, 120, (3, 28, 28))
        valid = [first * 2 + 5, second, third], [0, 0, 1]
        train = [first, 255 - second, third], [0, 0, 2]  # the last is a copy under another letter
        assert splits.has_near_copy(valid, train).tolist() == [True, False, False]

    def test_a_chain_of_copies_is_one_series(self):
        lines = [np.where(np.arange(784) < 300 + 10 * step, 250, 0).reshape(28, 28) for step in range(12)]
        labels = [0] * 6
        assert splits.has_near_copy((lines[::2], labels), (lines[1::2], labels)).all()
        far = [lines[0]], [0]
        assert not splits.has_near_copy(far, ([lines[-1]], [0])).any()

    def test_bad_input(self):
        with pytest.raises(CourseError, match=r"labels have the shape \(3,\); give one for each of the 4"):
            splits.has_near_copy((np.zeros((2, 28, 28)), [0, 0]), (np.zeros((2, 28, 28)), [0]))


class TestSplitByGroup:
    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 2**31), share=st.sampled_from([0.1, 0.25, 0.5, 0.8]), pure=st.booleans())
    def test_groups_stay_together_and_every_class_is_on_both_sides(self, seed, share, pure):
        random = np.random.default_rng(seed)
        group_classes = np.concatenate([np.arange(3), np.arange(3), random.integers(0, 3, 20)])
        groups = np.concatenate([np.arange(26), random.integers(0, 26, 200)])
        labels = group_classes[groups] if pure else np.concatenate([group_classes, random.integers(0, 3, 200)])
        names = np.array([f"person {number}" for number in groups])
        train, valid = splits.split_by_group(names, labels, valid_share=share, seed=seed)
        assert sorted([*train, *valid]) == list(range(226))
        assert np.all(np.diff(train) > 0)
        assert np.all(np.diff(valid) > 0)
        assert not {*names[train]} & {*names[valid]}
        assert {*labels[train]} == {*labels[valid]} == {0, 1, 2}
        assert abs(len(valid) / 226 - share) < 0.1

    def test_equal_groups_are_shared_exactly(self):
        groups = np.repeat(np.arange(40), 5)
        labels = groups % 2
        chosen = set()
        for seed in range(20):
            _, valid = splits.split_by_group(groups, labels, seed=seed)
            assert np.bincount(labels[valid]).tolist() == [25, 25]
            chosen |= {*groups[valid]}
        assert len(chosen) > 35  # each seed draws others

    def test_a_seed_means_the_same_split(self):
        groups, labels = np.random.default_rng(0).integers(0, 30, 300), np.random.default_rng(1).integers(0, 3, 300)
        first, again, other = (splits.split_by_group(groups, labels, seed=seed)[1] for seed in (0, 0, 1))
        assert first.tolist() == again.tolist()
        assert first.tolist() != other.tolist()

    def test_a_large_group_is_left_to_training(self):
        groups = [0] * 90 + [1] * 10
        for seed in range(5):
            assert splits.split_by_group(groups, [0] * 100, seed=seed)[1].tolist() == list(range(90, 100))

    def test_two_halves_are_parted_although_neither_is_a_quarter(self):
        train, valid = splits.split_by_group([0, 0, 1, 1], [5, 5, 5, 5])
        assert sorted([train.tolist(), valid.tolist()]) == [[0, 1], [2, 3]]

    def test_what_cannot_be_parted(self):
        with pytest.raises(CourseError, match="class 7 is in a single group"):
            splits.split_by_group([0, 1, 2], [7, 3, 3])

    def test_the_only_ways_are_found(self):
        """Of a and c, b and d, a and b, c and d, one each must be in validation."""
        groups, labels = [*"abcdabcd"], [0, 1, 0, 1, 2, 2, 3, 3]
        _, valid = splits.split_by_group(groups, labels, valid_share=0.5)
        assert {groups[place] for place in valid} in ({"a", "d"}, {"b", "c"})

    def test_three_pairs_that_cannot_all_be_parted(self):
        with pytest.raises(CourseError, match=r"no split with valid_share 0\.5 has every class on both sides"):
            splits.split_by_group([*"abbcca"], [0, 0, 1, 1, 2, 2], valid_share=0.5)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"groups": [0, 1], "labels": [0]}, r"groups have the shape \(2,\) and labels \(1,\)"),
            ({"groups": [], "labels": []}, r"groups have the shape \(0,\)"),
            ({"groups": [[0], [1]], "labels": [[0], [0]]}, r"groups have the shape \(2, 1\)"),
            ({"groups": [0, 1], "labels": [0, 0], "valid_share": 0.0}, r"valid_share is 0.0; give a number between"),
            ({"groups": [0, 1], "labels": [0, 0], "valid_share": 1}, "valid_share is 1"),
            ({"groups": [0, 1], "labels": [0, 0], "seed": -1}, "seed is -1"),
        ],
    )
    def test_bad_input(self, arguments, message):
        with pytest.raises(CourseError, match=message):
            splits.split_by_group(**arguments)


def test_class_weights():
    weights = class_weights([0, 0, 0, 2, 1, 0, 1, 0], 3)  # 5, 2 and 1 of 8
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [8 / 15, 8 / 6, 8 / 3], rtol=1e-6)
    np.testing.assert_allclose(class_weights(np.repeat([0, 1], 4).astype("uint8"), 2), [1, 1])


@pytest.mark.parametrize(
    ("labels", "num_classes", "reason"),
    [
        ([0, 2, 2], 3, "none of class 1"),
        ([0, 1, 2], 2, "0 to 2; give 0 to 1"),
        ([-1, 0, 1], 2, "-1 to 1"),
        ([0.0, 1.0], 2, "float64"),
        ([], 2, "(0,)"),
        ([[0], [1]], 2, "(2, 1)"),
        ([0, 1], 0, "num_classes is 0"),
        ([0, 1], True, "num_classes is True"),
    ],
)
def test_class_weights_refuse(labels, num_classes, reason):
    with pytest.raises(CourseError) as error:
        class_weights(labels, num_classes)
    assert reason in str(error.value)
