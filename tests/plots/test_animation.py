"""The animation of a descent: which steps it shows, and its GIF."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from keras_course import plots
from keras_course.errors import CourseError
from keras_course.plots.animation import _shown_steps

M, B = np.linspace(-2, 5, 29), np.linspace(-3, 6, 19)
X, Y = np.array([1.0, 2.0]), np.array([3.0, 5.0])
LOSSES = ((M + B[:, None] - 3) ** 2 + (2 * M + B[:, None] - 5) ** 2) / 2


def descent(steps: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """The path by the formula of the gradient, (5m + 3b - 13, 3m + 2b - 8), from (-1, 5), and its losses."""
    path = [np.array([-1.0, 5.0])]
    for _ in range(steps):
        m, b = path[-1]
        path.append(path[-1] - rate * np.array([5 * m + 3 * b - 13, 3 * m + 2 * b - 8]))
    errors = np.array(path) @ np.array([X, np.ones(2)]) - Y
    return np.array(path), (errors**2).mean(axis=1)


def film(steps: int = 30, rate: float = 0.1, **arguments: object) -> plots.Animation:
    return plots.descent_animation(M, B, LOSSES, *descent(steps, rate), **arguments)  # type: ignore[arg-type]


def frames_of(data: bytes) -> list[tuple[np.ndarray, int]]:
    with Image.open(io.BytesIO(data)) as picture:
        return [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)]


def test_gif_repeats_all_frames_and_holds_the_last_one(tmp_path: Path) -> None:
    animation = film(x=X, y=Y, seconds=3)
    path = tmp_path / "figures" / "descent.gif"
    assert plots.save_animation(animation, path) is animation
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0  # repeats without end
    frames = frames_of(path.read_bytes())
    assert [duration for _, duration in frames] == [100] * 30 + [2000]  # 3 seconds for 30 of the 31 frames
    for (shown, _), meant in zip(frames, animation.frames, strict=True):
        # with 255 colors, some pixels differ, but not visibly
        difference = np.abs(shown.astype(int) - np.asarray(meant).astype(int)).max(axis=-1)
        assert (difference == 0).mean() > 0.7
        assert (difference > 8).mean() < 0.03
        assert difference.max() < 40
        assert (shown == 255).all(axis=-1).mean() > 0.5  # the background
    assert path.stat().st_size < 500_000


def test_still_parts_do_not_flicker() -> None:
    frames = frames_of(film(x=X, y=Y).gif())
    changed = np.any([(shown != frames[0][0]).any(axis=-1) for shown, _ in frames], axis=0)
    assert 0 < changed.mean() < 0.2


def test_save_animation_also_writes_the_last_frame_as_png(tmp_path: Path) -> None:
    animation = plots.save_animation(film(), tmp_path / "descent.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["descent.gif", "descent.png"]
    with Image.open(tmp_path / "descent.png") as still:
        np.testing.assert_array_equal(np.asarray(still), np.asarray(animation.frames[-1]))


def test_the_same_descent_gives_the_same_bytes() -> None:
    assert film(x=X, y=Y).gif() == film(x=X, y=Y).gif()


def test_a_failed_save_leaves_the_old_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "descent.gif"
    path.write_bytes(b"the old film")

    def full_disk(self: Path, target: Path) -> Path:
        raise OSError("no space left on device")

    animation = film(steps=2)
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        plots.save_animation(animation, path)
    assert [file.name for file in tmp_path.iterdir()] == ["descent.gif"]
    assert path.read_bytes() == b"the old film"


def test_a_notebook_shows_the_gif() -> None:
    animation = film(steps=2)
    bundle = animation._repr_mimebundle_()
    assert base64.b64decode(bundle["image/gif"]) == animation.gif()
    assert bundle["text/plain"] == "<an animation of 3 frames>"


def test_points_add_a_panel() -> None:
    assert film(steps=2, x=X, y=Y).frames[0].width > 1.4 * film(steps=2).frames[0].width


def test_each_step_changes_the_picture() -> None:
    first, second, third = (np.asarray(frame) for frame in film(steps=2, x=X, y=Y).frames)
    assert (first != second).any()
    assert (second != third).any()


@pytest.mark.parametrize(
    ("count", "frames"), [(1, 40), (40, 40), (41, 40), (51, 40), (1001, 40), (100_001, 12), (9, 2)]
)
def test_shown_steps_include_the_first_and_the_last_with_growing_gaps(count: int, frames: int) -> None:
    steps = _shown_steps(count, frames)
    assert (steps[0], steps[-1]) == (0, count - 1)
    assert len(steps) == min(count, frames)
    if count == 1001:
        gaps = np.diff(steps)
        assert gaps[:3].tolist() == [1, 1, 1]
        assert gaps[-1] > 5 * gaps[len(gaps) // 2] > 5


def test_a_diverging_descent_is_shown_until_it_is_far_away() -> None:
    with np.errstate(all="ignore"):
        path, losses = descent(400, 2.0)
    assert not np.isfinite(losses[-1])
    far = int((np.abs(path) > 6e6).any(axis=1).argmax())
    animation = plots.descent_animation(M, B, LOSSES, path, losses, x=X, y=Y)
    assert 3 < len(animation.frames) <= far


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: film(frames=1), "frames is 1; give a whole number from 2 up"),
        (lambda: film(frames=2.5), "frames is 2.5; give"),
        (lambda: film(seconds=0), "seconds is 0; give a time above 0"),
        (lambda: film(seconds=float("nan")), "seconds is nan; give"),
        (lambda: film(x=X), "y is missing; give x and y of the points, or neither"),
        (lambda: film(x=X, y=Y[:1]), "x and y have lengths 2 and 1"),
        (lambda: plots.descent_animation(M, B, LOSSES, [[1, 1]], [1, 2]), r"path_losses has shape \(2,\); give 1"),
        (lambda: plots.descent_animation(M, B, LOSSES, [[1e30, 1]], [1]), "path starts too far outside of p and q"),
        (lambda: plots.save_animation(film(steps=1), "descent.png"), "path is 'descent.png'; give .* ends in .gif"),
    ],
)
def test_error_names_the_bad_input(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draw()
