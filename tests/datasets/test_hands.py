"""Drawn hands: that the seed and the number decide a picture, that letters can be told apart, and the geometry."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_course.datasets import hands
from keras_course.errors import CourseError

LETTERS = np.arange(24)


def gray(pictures):
    return pictures.reshape(len(pictures), -1).astype("float64")


@pytest.fixture
def clean(monkeypatch):
    """One light, one skin and an even wall for all; the hands stay as different as they are."""
    middles = {name: (sum(ends) / 2,) * 2 for name, ends in hands._RANGES.items()}
    nothing = {"noise": 0.0, "curtain": -3.0, "table": 3.0, "stain_radius": -1.0, "sleeve": 18.0}
    monkeypatch.setattr(hands, "_RANGES", middles | {name: (value, value) for name, value in nothing.items()})


class TestDraw:
    def test_shape_type_and_range(self):
        pictures = hands.draw(np.repeat(LETTERS, 20))
        assert (pictures.shape, pictures.dtype) == ((480, 28, 28, 1), np.uint8)
        assert pictures.min() == 0
        assert pictures.max() == 255
        # None is black, white or empty, and together they are neither dark nor glaring.
        assert (gray(pictures).std(axis=1) > 10).all()
        assert 100 < pictures.mean() < 200

    def test_the_seed_decides_the_pictures(self):
        first, again, other = (hands.draw(LETTERS, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (abs(gray(first) - gray(other)).mean(axis=1) > 5).all()

    def test_a_picture_depends_on_its_number_and_not_on_the_batch_that_it_is_drawn_in(self):
        letters = np.arange(200) % 24  # several chunks
        together = hands.draw(letters, seed=3)
        for start, stop in ((0, 1), (5, 6), (62, 66), (130, 200)):
            np.testing.assert_array_equal(hands.draw(letters[start:stop], seed=3, first=start), together[start:stop])

    def test_the_letters_around_it_do_not_change_a_picture(self):
        some, others = np.full(9, 4), np.arange(9)
        np.testing.assert_array_equal(hands.draw(some)[4], hands.draw(others)[4])

    def test_no_two_pictures_of_a_letter_are_alike(self):
        pictures = gray(hands.draw(np.zeros(60, int)))
        distance = abs(pictures[:, np.newaxis] - pictures).mean(-1)
        assert distance[~np.eye(60, dtype=bool)].min() > 5

    def test_letters_may_be_a_list_and_of_any_whole_type(self):
        expected = hands.draw([3, 0])
        for dtype in (np.uint8, np.int32, np.int64):
            np.testing.assert_array_equal(hands.draw(np.array([3, 0], dtype)), expected)

    @pytest.mark.parametrize("size", [8, 29, 56])
    def test_a_larger_picture_shows_the_same_hand(self, size, clean):
        pictures = hands.draw(LETTERS, size=size)
        assert pictures.shape == (24, size, size, 1)
        means = gray(hands.draw(LETTERS)).mean(axis=1)
        np.testing.assert_allclose(gray(pictures).mean(axis=1), means, atol=8)
        assert np.corrcoef(gray(pictures).mean(axis=1), means)[0, 1] > 0.95

    def test_each_letter_is_nearer_to_itself_than_to_any_other(self, clean):
        """Read by the nearest of 200 drawings of each letter, where guessing would read one in 24."""
        known, new = np.tile(LETTERS, 200), np.tile(LETTERS, 20)
        x, z = gray(hands.draw(known, seed=1)), gray(hands.draw(new, seed=2))
        distance2 = (z**2).sum(1)[:, np.newaxis] + (x**2).sum(1) - 2 * z @ x.T
        assert (known[distance2.argmin(axis=1)] == new).mean() > 0.85

    def test_with_little_jitter_the_mean_pictures_read_the_letters(self, clean, monkeypatch):
        normal, uniform = hands._Dice.normal, hands._Dice.uniform
        monkeypatch.setattr(hands._Dice, "normal", lambda dice, name, *shape: 0.3 * normal(dice, name, *shape))
        monkeypatch.setattr(
            hands._Dice,
            "uniform",
            lambda dice, name, *shape: (
                np.full((dice._count, 3), 0.5) if name == "place" else uniform(dice, name, *shape)
            ),
        )
        known, new = np.tile(LETTERS, 60), np.tile(LETTERS, 20)
        x, z = gray(hands.draw(known, seed=1)), gray(hands.draw(new, seed=2))
        # One mean for each pose, of which a letter has several: those are read by their number in the table.
        pose = [poses_of(letters, seed) for letters, seed in ((known, 1), (new, 2))]
        means = np.array([x[pose[0] == number].mean(axis=0) for number in range(len(hands._ALL_POSES.bends))])
        letter = np.repeat(LETTERS, hands._POSE_COUNTS)
        found = ((z[:, np.newaxis] - means) ** 2).sum(-1).argmin(axis=1)
        assert (letter[found] == new).mean() > 0.9

    @pytest.mark.parametrize(
        ("letters", "message"),
        [
            ([0, 24], "letters has 24; give whole numbers from 0 .A. to 23 .Y."),
            ([-1], "letters has -1; give"),
            ([0.5], r"letters is float64 \(1,\); give"),
            ([], r"letters is float64 \(0,\); give"),
            (np.zeros(0, int), r"letters is int64 \(0,\); give"),
            ([[1]], r"letters is int64 \(1, 1\); give"),
            (3, r"letters is int64 \(\); give"),
            (["A"], r"letters is <U1 \(1,\); give"),
        ],
    )
    def test_bad_letters_are_named(self, letters, message):
        with pytest.raises(CourseError, match=message):
            hands.draw(letters)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"size": 0}, "size is 0; give a whole number"),
            ({"size": 28.0}, "size is 28.0; give a whole number"),
            ({"size": 7}, "size is 7; give at least 8"),
            ({"first": -1}, "first is -1; give a whole number from 0 to 5,478,273"),
            ({"first": 5_478_274}, "first is 5478274; give"),
            ({"first": 1.0}, "first is 1.0; give"),
            ({"seed": -1}, "seed is -1; give"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(CourseError, match=message):
            hands.draw([0], **arguments)

    def test_the_last_number_can_be_drawn(self):
        assert hands.draw([0], first=5_478_273).std() > 10


class TestLoadData:
    def test_shapes_types_and_balance(self):
        (x_train, y_train), (x_valid, y_valid) = hands.load_data(count=96, valid_count=50)
        assert (x_train.shape, x_valid.shape) == ((96, 28, 28, 1), (50, 28, 28, 1))
        assert {x_train.dtype, x_valid.dtype} == {np.dtype(np.uint8)}
        assert {y_train.dtype, y_valid.dtype} == {np.dtype(np.int32)}
        assert np.bincount(y_train).tolist() == [4] * 24
        assert sorted(np.bincount(y_valid).tolist()) == [2] * 22 + [3] * 2

    def test_the_order_is_random(self):
        (_, y_train), (_, y_valid) = hands.load_data(count=240, valid_count=240)
        for labels in (y_train, y_valid):
            assert abs(np.corrcoef(labels, np.arange(240))[0, 1]) < 0.2
            assert abs(np.corrcoef(labels[1:], labels[:-1])[0, 1]) < 0.2
        assert (y_train == y_valid).mean() < 0.15

    def test_the_pictures_belong_to_their_labels(self, clean):
        """Those to validate with are read by the nearest of those to train on."""
        (x_train, y_train), (x_valid, y_valid) = hands.load_data(count=2400, valid_count=240)
        x, z = gray(x_train), gray(x_valid)
        distance2 = (x**2).sum(1) - 2 * z @ x.T
        assert (y_train[distance2.argmin(axis=1)] == y_valid).mean() > 0.75

    def test_training_and_validation_are_independent(self, monkeypatch):
        monkeypatch.setattr(hands.randomness, "permutation", lambda key, size: np.zeros(size, "int32"))  # all are A
        (x_train, _), (x_valid, _) = hands.load_data(count=48, valid_count=48)
        assert (abs(gray(x_train) - gray(x_valid)).mean(axis=1) > 5).all()

    def test_the_seed_decides_the_data(self):
        first, again, other = (hands.load_data(count=30, valid_count=10, seed=seed) for seed in (1, 1, 2))
        for one, same, another in zip(
            (*first[0], *first[1]), (*again[0], *again[1]), (*other[0], *other[1]), strict=True
        ):
            np.testing.assert_array_equal(one, same)
            assert (one != another).any()

    @pytest.mark.parametrize("argument", ["count", "valid_count"])
    def test_bad_counts_are_named(self, argument):
        with pytest.raises(CourseError, match=f"{argument} is 0; give"):
            hands.load_data(**{argument: 0})

    def test_names_and_shape(self):
        assert "".join(hands.CLASS_NAMES) == "ABCDEFGHIKLMNOPQRSTUVWXY"
        assert hands.INPUT_SHAPE == (28, 28, 1)


class TestGeometry:
    def shapes(self, bends, fingers_to=(0, 1, 0), palm_to=(0, 0, 1)):
        return hands._Shapes(
            bends=np.array([[bends] * 4], "float64"),
            thumb=np.array([[(1.0, 0, 0)] * 3]),
            fingers_to=np.array([fingers_to], "float64"),
            palm_to=np.array([palm_to], "float64"),
            arm_to=np.array([(0.0, -1, 0)]),
            place=np.array([(0.85, 0, 0)]),
        )

    def look(self):
        """Every measure as it is in the table: 1 times; the sleeve is 5 cm up the arm."""
        ones = np.ones(1)
        return SimpleNamespace(**dict.fromkeys(hands._RANGES, ones) | {"sleeve": 5 * ones})

    def fingertips(self, *arguments):
        return hands._skeleton(self.shapes(*arguments), self.look())[1][0, [6, 9, 12, 15]]

    def test_straight_fingers_end_where_their_bones_add_up_to(self):
        # from the knuckle, 4.6 + 2.7 + 2.0 cm for the index finger, and so on
        expected = [(2.7, 18.4, 0.1), (0.65, 19.7, 0), (-1.35, 18.6, 0.1), (-3.2, 15.6, 0.3)]
        np.testing.assert_allclose(self.fingertips((0, 0, 0, 0)), expected, atol=1e-9)

    def test_bent_at_the_knuckles_they_point_out_of_the_palm(self):
        expected = [(2.7, 9.1, 9.4), (0.65, 9.5, 10.2), (-1.35, 9.0, 9.7), (-3.2, 8.0, 7.9)]
        np.testing.assert_allclose(self.fingertips((90, 0, 0, 0)), expected, atol=1e-9)

    def test_three_right_angles_bring_the_tip_of_a_finger_back_toward_its_knuckle(self):
        # the index finger: 4.6 out of the palm, 2.7 down, 2.0 back
        np.testing.assert_allclose(self.fingertips((90, 90, 90, 0))[0], (2.7, 9.1 - 2.7, 0.1 + 4.6 - 2.0), atol=1e-9)

    def test_a_finger_leans_toward_the_thumb(self):
        sine, cosine = 0.5, np.sqrt(0.75)
        np.testing.assert_allclose(
            self.fingertips((0, 0, 0, 30))[0], (2.7 + 9.3 * sine, 9.1 + 9.3 * cosine, 0.1), atol=1e-9
        )

    def test_the_hand_is_turned_to_where_fingers_and_palm_shall_point(self):
        # fingers to the right, palm away from the viewer: the thumb's side is above
        found = self.fingertips((0, 0, 0, 0), (1, 0, 0), (0, 0, -1))[0]
        np.testing.assert_allclose(found, (18.4, 2.7, -0.1), atol=1e-9)

    def test_the_thumb_and_the_sleeve(self):
        starts, ends = hands._skeleton(self.shapes((0, 0, 0, 0)), self.look())
        np.testing.assert_allclose(ends[0, 18], (1.6 + 4.4 + 3.3 + 2.6, 2.2, 0.7), atol=1e-9)
        np.testing.assert_allclose(starts[0, hands._SLEEVE], (0, 0.9 - 5, 0), atol=1e-9)

    def test_turns(self):
        vectors = np.array([(0.0, 1, 0), (0, 0, 1), (1, 0, 0), (1, 0, 0)])
        angles = np.array([(90.0, 0, 0), (0, 90, 0), (0, 0, 90), (0, 90, 90)])
        expected = [(0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 0, -1)]
        np.testing.assert_allclose(hands._turned(vectors, angles), expected, atol=1e-12)

    @pytest.mark.parametrize("tilt", [-15.0, 0.0, 40.0])
    def test_a_capsule_is_the_union_of_its_balls(self, tilt):
        start, end, radius, grid = np.array([9.0, 12.0, 3.0]), np.array([22.0, 17.0, 3.0 + tilt]), 5.0, 32
        once = np.array([[radius]])
        depth, right, below, is_last = hands._surface(start[None, None], end[None, None], once, once, once, grid)

        places = np.arange(grid) + 0.5
        expected = np.full((grid, grid), -np.inf)
        for share in np.linspace(0, 1, 4001):
            x, y, z = start + share * (end - start)
            height2 = radius**2 - (places - x) ** 2 - (places[:, np.newaxis] - y) ** 2
            expected = np.maximum(expected, np.where(height2 > 0, z + np.sqrt(np.maximum(height2, 0)), -np.inf))

        inside = depth[0] > hands._NOWHERE
        assert (inside != np.isfinite(expected)).sum() <= 2  # pixels whose middle lies on the rim
        both = inside & np.isfinite(expected)
        assert both.sum() > 100
        np.testing.assert_allclose(depth[0][both], expected[both], atol=0.02)
        assert (is_last[0] == inside).all()
        # The surface faces away from the axis, and beyond the ends of the axis away from these.
        axis = (end - start) / np.linalg.norm(end - start)
        near = np.sqrt(np.maximum(1 - right[0] ** 2 - below[0] ** 2, 0))
        along = (right[0] * axis[0] + below[0] * axis[1] + near * axis[2])[both]
        assert np.isclose(along, 0, atol=1e-2).mean() > 0.2
        assert abs(along).max() <= 1 + 1e-6

    def test_the_nearer_capsule_hides_the_other(self):
        starts = np.array([[(8.0, 16.0, 0.0), (16.0, 8.0, 10.0)]])
        ends = np.array([[(24.0, 16.0, 0.0), (16.0, 24.0, 10.0)]])
        radii, melting = np.full((1, 2), 3.0), np.full((1, 2), 0.1)
        for order, is_nearer_last in (([0, 1], True), ([1, 0], False)):
            depth, _, _, is_last = hands._surface(starts[:, order], ends[:, order], radii, radii, melting, 32)
            assert depth[0, 15, 15] == pytest.approx(10 + np.sqrt(9 - 0.5**2), abs=1e-5)
            assert bool(is_last[0, 15, 15]) == is_nearer_last

    def test_the_mean_around_a_pixel(self):
        picture = np.random.default_rng(0).random((2, 7, 7)).astype("float32")
        padded = np.pad(picture, ((0, 0), (2, 2), (2, 2)))
        expected = [[[part[i : i + 5, j : j + 5].mean() for j in range(7)] for i in range(7)] for part in padded]
        np.testing.assert_allclose(hands._box_mean(picture, 2), expected, atol=1e-5)

    def test_a_hollow_is_darker_than_what_surrounds_it(self):
        depth = np.full((1, 28, 28), 5.0, "float32")
        depth[0, 12:16, 12:16] = 0
        share = hands._ambient_light(depth, np.ones_like(depth), np.ones(1))
        assert share[0, 13, 13] < 0.6
        np.testing.assert_allclose(share[0, 6:8, 20:22], 1, atol=1e-6)  # flat all around

    def test_blur_keeps_what_is_even_and_spreads_a_point(self):
        even, point = np.full((1, 5, 5), 0.4, "float32"), np.zeros((1, 5, 5), "float32")
        point[0, 2, 2] = 1
        np.testing.assert_allclose(hands._blurred(even, np.array([0.2])), even, atol=1e-6)
        kernel = np.outer([0.2, 0.6, 0.2], [0.2, 0.6, 0.2])
        np.testing.assert_allclose(hands._blurred(point, np.array([0.2]))[0, 1:4, 1:4], kernel, atol=1e-6)

    def test_noise_has_a_standard_deviation_of_one(self):
        noise = hands._Dice(0, "draw", 0, 200).noise(28)
        assert noise.shape == (200, 28, 28)
        assert abs(noise.mean()) < 0.02
        assert noise.std() == pytest.approx(1, abs=0.02)


def poses_of(letters, seed):
    dice = hands._Dice(seed, "draw", 0, len(letters))
    share = dice.uniform("pose", 1)[:, 0]
    counts = np.array([len(hands._POSES[name]) for name in hands.CLASS_NAMES])
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return before[letters] + (share * counts[letters]).astype(int)
