# %% [markdown]
# # 01 · Gradient descent
# A line learns to go through two points, and every number of its training can be checked by hand.
#
# - needs: one backend
# - data: two points, then ten
# - time: a quarter of a minute on two cores
#
# Run it with `keras-course run 01_gradient_descent`, with `python examples/01_gradient_descent.py`, or cell by cell in
# JupyterLab. `keras-course play` opens a page on which the same descent follows the mouse.

# %%
from keras_course.lesson import parse_options

LESSON = "01_gradient_descent"
options = parse_options("Fits a line to two points by gradient descent.", epochs=300, batch_size=2)

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import plots, report
from keras_course.datasets import lines
from keras_course.errors import DivergenceError
from keras_course.evaluation import mean_squared_error, root_mean_squared_error
from keras_course.models import best_line, line_gradient, line_loss, line_model, predict_line
from keras_course.training import (
    compare,
    finite_differences,
    fit,
    gradient_descent,
    loss_surface,
    open_run,
    value_and_grad,
)

# %% [markdown]
# ## 1. Data
# Two points, so that nothing is hidden: where x is 1, y is 3; where x is 2, y is 5.

# %%
x, y = lines.load_data("two_points")
m, b = lines.STARTS["two_points"]
for number in range(len(x)):
    print(f"point {number + 1}: x = {x[number]:g}, y = {y[number]:g}")

# %% [markdown]
# ## 2. Look at it
# A line is two numbers: its slope m and its intercept b. Somebody guessed m = -1 and b = 5. The dashed distances are
# what the guess gets wrong.

# %%
run = open_run(LESSON, options)
plots.save(plots.line_fit(x, y, {"the guess": (m, b)}), run.figures / "points.png")

# %% [markdown]
# ## 3. Model
# The model is ŷ = mx + b. How wrong it is shall be one number: the *mean squared error*, MSE = Σ (y − ŷ)² / n. Its
# root, the RMSE, has the unit of y.

# %%
outputs = predict_line(m, b, x)
for number in range(len(x)):
    error = y[number] - outputs[number]
    print(f"x = {x[number]:g}: ŷ = {outputs[number]:g}, y = {y[number]:g}, squared error {error**2:g}")
print(f"MSE {mean_squared_error(outputs, y):g}, RMSE {root_mean_squared_error(outputs, y):.2f}")

# %% [markdown]
# Each m and b has its own loss. Together they are a *surface*, a valley over the plane of all lines, and training is a
# way down into it.


# %%
def loss(m, b):
    return line_loss(m, b, x, y)


BOUNDS = (-2.0, 5.0, -2.5, 6.5)  # least and greatest m, least and greatest b
surface = loss_surface(loss, BOUNDS)
plots.save(plots.loss_surface(*surface, title="the loss of every line"), run.figures / "surface.png")

# %% [markdown]
# Which way is down? The *gradient* says how much the loss grows when m grows a little, and when b does. There are three
# ways to get it, and they have to agree:
#
# - by the formula. ∂MSE/∂m = 2/n Σ x(ŷ − y) and ∂MSE/∂b = 2/n Σ (ŷ − y); for our two points that is 5m + 3b − 13 and
#   3m + 2b − 8;
# - by the framework, which takes the loss apart into operations whose derivatives it knows: this is what trains every
#   network;
# - by trying: how much does the loss change when m is a tiny bit larger?

# %%
_, by_framework = value_and_grad(loss, (m, b))
ways = {
    "by the formula": line_gradient(m, b, x, y),
    "by the framework": by_framework,
    "by finite differences": finite_differences(loss, (m, b)),
}
for name, (slope_m, slope_b) in ways.items():
    print(f"{name:<22} ∂MSE/∂m = {slope_m:.4f}, ∂MSE/∂b = {slope_b:.4f}")

# %% [markdown]
# ## 4. Train
# A step goes against the gradient: m ← m − λ ∂MSE/∂m, and the same for b. λ is the *learning rate*. The gradient is
# negative here, so both numbers grow.

# %%
step = gradient_descent(loss, (m, b), learning_rate=0.1, steps=1)
print(f"one step with λ = 0.1: m = {step.path[1, 0]:.1f}, b = {step.path[1, 1]:.1f}, MSE {step.epoch_losses[1]:.3f}")

# %% [markdown]
# Many steps of that kind are the whole of training.

# %%
descent = gradient_descent(loss, (m, b), learning_rate=0.1, steps=options.epochs)
print(f"{len(descent.losses)} steps: m = {descent.path[-1, 0]:.3f}, b = {descent.path[-1, 1]:.3f}")
plots.save(
    plots.loss_surface(*surface, path=descent.path, path_losses=descent.epoch_losses, title="the way down"),
    run.figures / "surface_with_path.png",
)

# %%
plots.save(plots.loss_contours(*surface, paths={"λ = 0.1": descent.path}), run.figures / "contours.png")

# %% [markdown]
# While the point walks down the valley, the line turns into the data.

# %%
shown = sorted({min(number, options.epochs) for number in (0, 1, 10, 50, options.epochs)})
plots.save(
    plots.line_fit(x, y, {f"step {number}": tuple(descent.path[number]) for number in shown}),
    run.figures / "line.png",
)

# %%
animation = plots.descent_animation(*surface, descent.path, descent.epoch_losses, x=x, y=y)
plots.save_animation(animation, run.figures / "descent.gif")

# %% [markdown]
# The learning rate is the one number that you choose. A small one crawls. With a large one each step lands further away
# on the other side of the valley: training *diverges*. That is noticed, and the run stops with what it has found.

# %%
try:
    gradient_descent(loss, (m, b), learning_rate=2.0, steps=options.epochs)
except DivergenceError as error:
    print(error)
    print("m and b, step by step:", *(f"({m:.4g}, {b:.4g})" for m, b in error.found.path))

# %%
family = compare(loss, start=(m, b), learning_rate=[0.001, 0.01, 0.1, 0.28, 2.0], epochs=options.epochs)
plots.save(
    plots.loss_curves({name: each.epoch_losses for name, each in family.items()}, x_label="step", ordered=True),
    run.figures / "learning_rates.png",
)

# %%
plots.save(
    plots.loss_contours(*surface, paths={name: each.path for name, each in family.items()}, panels=True),
    run.figures / "learning_rates_on_the_surface.png",
)

# %% [markdown]
# The limit can be computed: along the steepest direction of the valley the loss bends most, and λ must stay below 2
# divided by that bend, the largest eigenvalue of the matrix of second derivatives.

# %%
bend = np.linalg.eigvalsh([[2 * np.mean(x**2), 2 * np.mean(x)], [2 * np.mean(x), 2.0]]).max()
print(f"every learning rate above {2 / bend:.3f} diverges on these two points")

# %% [markdown]
# A framework does just the same. A layer `Dense(1)` with one input is ŷ = mx + b: its weight is m, its bias is b. From
# the same start, with the same learning rate, it takes the same way.

# %%
model = line_model(m=m, b=b)
history = fit(
    model,
    (x[:, None], y[:, None]),
    optimizer=keras.optimizers.SGD(0.1),
    loss="mean_squared_error",
    metrics={},
    epochs=options.epochs,
    batch_size=options.batch_size,
    seed=options.seed,
    run=run,
    log_steps=options.log_steps,
    progress=False,
)
if options.batch_size >= len(x):
    difference = np.abs(np.array(history["loss"]) - descent.losses).max()
    print(f"Dense(1) and the descent by hand: their losses differ by {difference:.1e} at most")
plots.save(plots.training_curves(history, loss_label="mean squared error"), run.figures / "curves.png")

# %% [markdown]
# ## 5. Evaluate
# Two points have a line that goes through both, and descent comes as near to it as you like. The course's ten points
# have none: what is left is the loss of the best line. For a line that one can be computed without any descent, by
# *least squares*; for a network nobody knows how.

# %%
x10, y10 = lines.load_data("ten_points")
start = lines.STARTS["ten_points"]
best = best_line(x10, y10)
ten = gradient_descent(lambda m, b: line_loss(m, b, x10, y10), start, learning_rate=0.02, steps=1000)
for name, (slope, intercept) in {"start": start, "descent": ten.path[-1], "least squares": best}.items():
    outputs = predict_line(slope, intercept, x10)
    mse, rmse = mean_squared_error(outputs, y10), root_mean_squared_error(outputs, y10)
    print(f"{name:<13} m = {slope:.4f}, b = {intercept:.4f}: MSE {mse:.2f}, RMSE {rmse:.3f}")
plots.save(
    plots.line_fit(x10, y10, {"start": start, "step 3": tuple(ten.path[3]), "step 1000": tuple(ten.path[-1])}),
    run.figures / "ten_points.png",
)

# %%
slope, intercept = (float(weight.item()) for weight in model.get_weights())
outputs = predict_line(slope, intercept, x)
metrics = run.save_results(
    model,
    history,
    options,
    loss=mean_squared_error(outputs, y),
    rmse=root_mean_squared_error(outputs, y),
    loss_name="mean squared error",
    m=slope,
    b=intercept,
    samples=len(x),
)
page = report.write_report(
    run.path,
    title="Gradient descent",
    captions={
        "points": "Two points, and a line that somebody guessed.",
        "surface": "The mean squared error of every line.",
        "contours": "The way down, seen from above. Each dot is a step.",
        "surface_with_path": "The same way on the surface.",
        "line": "The line turns into the data.",
        "descent": "All of it at once.",
        "learning_rates": "What the learning rate does: too small crawls, too large diverges.",
        "learning_rates_on_the_surface": "The same runs on the surface.",
        "curves": "Dense(1), trained by Keras' optimizer.",
        "ten_points": "Ten points have no line through all of them.",
    },
)
run.close()
print(f"m = {slope:.3f}, b = {intercept:.3f}, RMSE {metrics['rmse']:.4f}; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `keras-course play`: drag the start, choose λ, and watch.
# - `--epochs 10` and `--epochs 1000`: how near does it come?
# - Find the largest learning rate that still converges, by trying. Is it the one that was computed?
# - `--batch-size 1`: one point at a time. The path is no longer straight down. Lesson 02 says why that can be good.
# - Move one of the ten points far away. How much does the line care? What would it do with the mean absolute error as
#   its loss?
