"""Compares what `record.py` recorded on the backends; needs NumPy and nothing else."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ("jax", "tensorflow", "torch")
PAIRS = list(itertools.combinations(BACKENDS, 2))
FOLDER = Path(os.environ.get("KERAS_COURSE_RECORDINGS", "recordings"))


@pytest.fixture(scope="session")
def recordings():
    missing = [name for name in BACKENDS if not (FOLDER / f"{name}.npz").exists()]
    assert not missing, f"no recording of {missing} in {FOLDER}; run tox for them first"
    return {name: dict(np.load(FOLDER / f"{name}.npz", allow_pickle=False)) for name in BACKENDS}


def same_names(recordings, prefix):
    names = [{name for name in recording if name.startswith(prefix)} for recording in recordings.values()]
    assert names[0] == names[1] == names[2] != set()
    return sorted(names[0])


@pytest.mark.parametrize("prefix", ["draws/bits", "draws/uniform", "draws/integers", "draws/mask", "draws/permutation"])
def test_draws_are_the_same_bits(recordings, prefix):
    for name in same_names(recordings, prefix):
        first, *others = (recording[name] for recording in recordings.values())
        assert first.size > 500
        assert len(np.unique(first)) > 1
        for other in others:
            assert first.dtype == other.dtype
            np.testing.assert_array_equal(first, other)


def test_normals_agree_to_the_last_bits(recordings):
    for first, second in PAIRS:
        np.testing.assert_allclose(recordings[first]["draws/normal"], recordings[second]["draws/normal"], atol=2e-6)


def test_initial_weights_are_the_same_bits(recordings):
    for name in same_names(recordings, "weights/"):
        first, *others = (recording[name] for recording in recordings.values())
        for other in others:
            np.testing.assert_array_equal(first, other)


def test_logits_agree(recordings):
    for first, second in PAIRS:
        np.testing.assert_allclose(recordings[first]["logits"], recordings[second]["logits"], atol=1e-5)


# How far the losses of two backends may be apart over the first steps: what was measured, with room for another
# processor. Smooth nets stay together. Nets with ReLU part when the sign of a unit's input flips in the last bit.
TOLERANCES = {
    "relu_adam": {5: 1e-5, 20: 1e-4, 50: 5e-2},
    "relu_adam_8": {5: 1e-5, 20: 1e-3, 50: 5e-2},
    "relu_sgd": {5: 1e-5, 50: 1e-4},
    "tanh_adam": {5: 1e-5, 50: 1e-5, 200: 1e-4},
    "tanh_dropout": {5: 1e-5, 50: 1e-5, 200: 1e-4},
}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", TOLERANCES)
def test_one_seed_one_curve(recordings, name, pair):
    first, second = (recordings[backend][f"curves/{name}"] for backend in pair)
    assert len(first) == 200
    assert first[-20:].mean() < 0.7 * first[:5].mean(), "the net has not learned anything"
    apart = np.abs(first - second)
    for steps, tolerance in TOLERANCES[name].items():
        assert apart[:steps].max() <= tolerance, f"{name} over {steps} steps"


# The same for the course's convolutional net on augmented pictures. It has 33,000 ReLUs and 8,000 maxima a picture, of
# which some flip in the first steps; in the smooth net (tanh, average pooling) nothing is left but rounding.
CONVOLUTIONAL_TOLERANCES = {
    "sgd": {1: 1e-5, 5: 3e-4, 20: 1e-3, 60: 5e-3},
    "adam": {1: 1e-5, 5: 1e-3, 12: 2e-2, 60: 0.3},
    "smooth_adam": {1: 1e-5, 60: 5e-4},
}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", CONVOLUTIONAL_TOLERANCES)
def test_one_seed_one_curve_of_a_convolutional_net(recordings, name, pair):
    first, second = (recordings[backend][f"convolutional/{name}"] for backend in pair)
    assert len(first) == 60
    assert first[-10:].mean() < 0.95 * first[:5].mean(), "the net has not learned anything"
    apart = np.abs(first - second)
    for steps, tolerance in CONVOLUTIONAL_TOLERANCES[name].items():
        assert apart[:steps].max() <= tolerance, f"{name} over {steps} steps"


# Language models with dropout are smooth.
LANGUAGE_TOLERANCES = {5: 1e-5, 50: 1e-3}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_one_seed_one_curve_of_a_language_model(recordings, name, pair):
    first, second = (recordings[backend][f"language/curves/{name}"] for backend in pair)
    assert len(first) == 60
    assert first[-10:].mean() < 0.95 * first[:5].mean(), "the net has not learned anything"
    apart = np.abs(first - second)
    for steps, tolerance in LANGUAGE_TOLERANCES.items():
        assert apart[:steps].max() <= tolerance, f"{name} over {steps} steps"


def test_a_seed_writes_the_same_words(recordings):
    names = same_names(recordings, "language/words/")
    assert len(names) == 10
    for name in names:
        first, *others = (recording[name] for recording in recordings.values())
        assert len(first) > 0
        for other in others:
            np.testing.assert_array_equal(first, other, err_msg=name)
    sampled = [recordings["jax"][name] for name in names if name.endswith(("sample", "nucleus", "top_k"))]
    assert all(len(np.unique(tokens)) > 10 for tokens in sampled)


def test_the_data_are_the_same_bits(recordings):
    for name in same_names(recordings, "descents/data/"):
        first, *others = (recording[name] for recording in recordings.values())
        assert first.std() > 0.5
        for other in others:
            np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_descents_take_the_same_path(recordings, pair):
    """Five optimizers with two learning rates on three surfaces; parameters are of the order of 1 to 10.

    60 steps, because later RMSprop rattles across the floor of the curved valley, dividing by slopes that are nearly 0:
    there the last bit grows to 1e-2.
    """
    names = same_names(recordings, "descents/paths/")
    assert len(names) == 30
    for name in names:
        first, second = (recordings[backend][name] for backend in pair)
        assert len(first) == 61, "a path that diverged cannot be compared"
        assert np.abs(first[-1] - first[0]).max() > 0.01
        np.testing.assert_allclose(first, second, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_families_on_data_have_the_same_curves(recordings, pair):
    names = same_names(recordings, "descents/families/")
    assert len(names) == 12
    for name in names:
        first, second = (recordings[backend][name] for backend in pair)
        assert len(first) >= 20
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 0.01), ("uint8", 1), ("labels", 1e-6)])
def test_augmented_pictures_are_the_same(recordings, kind, tolerance):
    """Far within 1e-3 of the range of 255; a whole number may be rounded the other way."""
    for name in same_names(recordings, f"augmented/{kind}"):
        first, *others = (recording[name].astype("float64") for recording in recordings.values())
        assert first.std() > 0.1
        for other in others:
            np.testing.assert_allclose(first, other, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("name", "tolerance", "spread"), [("logits", 1e-4, 0.01), ("head", 1e-4, 0.01), ("solved", 1e-5, 0.001)]
)
def test_a_pretrained_network_says_the_same(recordings, name, tolerance, spread):
    """Photos through EfficientNet-Lite0, the losses of a new head over 20 epochs, and of one that is solved for."""
    for first, second in PAIRS:
        ours, theirs = (recordings[backend][f"transfer/{name}"] for backend in (first, second))
        assert ours.std() > spread
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


def test_a_run_goes_on_on_another_backend(recordings):
    """`resumed/<a>` in the recording of <b>: one epoch on a, two more on b. All agree with a run that never moved."""
    loss, accuracy, valid_loss, valid_accuracy = range(4)
    stayed = {name: recordings[name][f"resumed/{name}"] for name in BACKENDS}
    moved = [
        (origin, recordings[backend][f"resumed/{origin}"])
        for backend, origin in itertools.permutations(BACKENDS, 2)
        if f"resumed/{origin}" in recordings[backend]
    ]
    assert len(moved) >= 3, "the backends that ran later have resumed the runs of those that ran before"
    for origin, numbers in moved:
        np.testing.assert_array_equal(numbers[:, 0], stayed[origin][:, 0])  # the epoch before the move is history
        np.testing.assert_allclose(numbers[loss], stayed[origin][loss], atol=5e-3)
        np.testing.assert_allclose(numbers[valid_loss], stayed[origin][valid_loss], atol=2e-2)
        np.testing.assert_allclose(
            numbers[[accuracy, valid_accuracy]], stayed[origin][[accuracy, valid_accuracy]], atol=2e-2
        )
