# %% [markdown]
# # 01 · Gradient descent
# A line is fitted to two points by gradient descent, and every number of the training can be checked by hand.
#
# - needs: one backend
# - data: two points, then ten
# - time: a quarter of a minute on two cores
# - result: the loss surface with the path of the descent, an animation of it, and the line through the points
#
# Run it with `keras-course run 01_gradient_descent`, with `python examples/01_gradient_descent.py`, or cell by cell in
# JupyterLab. `keras-course play` opens a page on which you can set the start with the mouse.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Fits a line to two points by gradient descent.", epochs=300, batch_size=2)

# %% The backend is selected: now Keras can be imported.
import keras
import numpy as np

from keras_course import plots
from keras_course.datasets import lines
from keras_course.errors import DivergenceError
from keras_course.evaluation import mean_squared_error, root_mean_squared_error
from keras_course.models import best_line, line_gradient, line_loss, line_model, predict_line
from keras_course.training import compare, finite_differences, fit, gradient_descent, loss_surface, value_and_grad

# %% [markdown]
# ## 1. Data
# There are two points: at x = 1, y is 3; at x = 2, y is 5.

# %%
x, y = lines.load_data("two_points")
m, b = lines.STARTS["two_points"]
for number in range(len(x)):
    print(f"point {number + 1}: x = {x[number]:g}, y = {y[number]:g}")

# %% [markdown]
# ## 2. Look at it
# A line has two numbers: its slope m and its intercept b. The first guess is m = -1 and b = 5. The dashed lines are the
# errors of the guess.

# %%
run = open_run("01_gradient_descent", options)
run.add_figure("points", plots.line_fit(x, y, {"first guess": (m, b)}), "Two points, and the line of the first guess.")

# %% [markdown]
# ## 3. Model
# The model is ŷ = mx + b. One number measures its error: the *mean squared error*, MSE = Σ (y − ŷ)² / n. Its square
# root, the RMSE, has the unit of y.

# %%
outputs = predict_line(m, b, x)
for number in range(len(x)):
    error = y[number] - outputs[number]
    print(f"x = {x[number]:g}: ŷ = {outputs[number]:g}, y = {y[number]:g}, squared error {error**2:g}")
print(f"MSE {mean_squared_error(outputs, y):g}, RMSE {root_mean_squared_error(outputs, y):.2f}")

# %% [markdown]
# Each pair of m and b has its own loss. Together these losses form the *loss surface* over the plane of all lines.
# Training goes down this surface.


# %%
def loss(m, b):
    return line_loss(m, b, x, y)


BOUNDS = (-2.0, 5.0, -2.5, 6.5)  # smallest and largest m, smallest and largest b
surface = loss_surface(loss, BOUNDS)
run.add_figure("surface", plots.loss_surface(*surface, title="loss surface"), "The mean squared error of every line.")

# %% [markdown]
# Which way is down? The *gradient* says how fast the loss grows when m grows, and when b grows. There are three ways to
# compute it, and their results agree:
#
# - by the formula: ∂MSE/∂m = 2/n Σ x(ŷ − y) and ∂MSE/∂b = 2/n Σ (ŷ − y); for our two points that is 5m + 3b − 13 and
#   3m + 2b − 8;
# - by the framework, which differentiates the operations of the loss one after the other (automatic differentiation);
#   every network is trained in this way;
# - by finite differences: how much does the loss change when m is slightly larger?

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
# Training consists of many such steps.

# %%
descent = gradient_descent(loss, (m, b), learning_rate=0.1, steps=options.epochs)
print(f"{len(descent.losses)} steps: m = {descent.path[-1, 0]:.3f}, b = {descent.path[-1, 1]:.3f}")
with_path = plots.loss_surface(
    *surface, path=descent.path, path_losses=descent.epoch_losses, title="path of the descent"
)
run.add_figure("surface_with_path", with_path, "The path of the descent on the loss surface.")

# %%
contours = plots.loss_contours(*surface, paths={"λ = 0.1": descent.path})
run.add_figure("contours", contours, "The same path seen from above. Each dot is a step.")

# %% [markdown]
# While m and b change, the line approaches the points.

# %%
shown = sorted({min(number, options.epochs) for number in (0, 1, 10, 50, options.epochs)})
fits = plots.line_fit(x, y, {f"step {number}": tuple(descent.path[number]) for number in shown})
run.add_figure("line", fits, "The line after some of the steps.")

# %%
animation = plots.descent_animation(*surface, descent.path, descent.epoch_losses, x=x, y=y)
run.add_figure("descent", animation, "The descent step by step: path, line and loss.")

# %% [markdown]
# You choose the learning rate. With a small one the descent is slow. With a large one each step lands farther away on
# the other side of the valley: training *diverges*. The function detects this and raises an error that holds the steps
# so far.

# %%
try:
    gradient_descent(loss, (m, b), learning_rate=2.0, steps=options.epochs)
except DivergenceError as error:
    print(error)
    print("m and b, step by step:", *(f"({m:.4g}, {b:.4g})" for m, b in error.found.path))

# %%
family = compare(loss, start=(m, b), learning_rate=[0.001, 0.01, 0.1, 0.28, 2.0], epochs=options.epochs)
curves = plots.loss_curves({name: each.epoch_losses for name, each in family.items()}, x_label="step", ordered=True)
run.add_figure("learning_rates", curves, "Five learning rates: the smallest is slow, the largest diverges.")

# %%
panels = plots.loss_contours(*surface, paths={name: each.path for name, each in family.items()}, panels=True)
run.add_figure("learning_rates_on_the_surface", panels, "The paths of the same runs.")

# %% [markdown]
# The limit can be computed: λ must be below 2 divided by the largest curvature of the loss, which is the largest
# eigenvalue of the matrix of second derivatives.

# %%
curvature = np.linalg.eigvalsh([[2 * np.mean(x**2), 2 * np.mean(x)], [2 * np.mean(x), 2.0]]).max()
print(f"every learning rate above {2 / curvature:.3f} diverges on these two points")

# %% [markdown]
# Keras does the same. A layer `Dense(1)` with one input is ŷ = mx + b: its weight is m, its bias is b. With the same
# start and the same learning rate it takes the same path.

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
    print(f"largest difference between the losses of Dense(1) and of gradient_descent: {difference:.1e}")
training = plots.training_curves(history, loss_label="mean squared error")
run.add_figure("curves", training, "Dense(1), trained by Keras' optimizer.")

# %% [markdown]
# ## 5. Evaluate
# A line can pass through both points, and the descent comes as close to it as you like. No line passes through the ten
# points of the course: the loss of the best line remains. For a line, *least squares* computes the best one directly;
# for a network there is no such formula.

# %%
x10, y10 = lines.load_data("ten_points")
start = lines.STARTS["ten_points"]
best = best_line(x10, y10)
ten = gradient_descent(lambda m, b: line_loss(m, b, x10, y10), start, learning_rate=0.02, steps=1000)
for name, (slope, intercept) in {"start": start, "descent": ten.path[-1], "least squares": best}.items():
    outputs = predict_line(slope, intercept, x10)
    mse, rmse = mean_squared_error(outputs, y10), root_mean_squared_error(outputs, y10)
    print(f"{name:<13} m = {slope:.4f}, b = {intercept:.4f}: MSE {mse:.2f}, RMSE {rmse:.3f}")
fits = plots.line_fit(x10, y10, {"start": start, "step 3": tuple(ten.path[3]), "step 1000": tuple(ten.path[-1])})
run.add_figure("ten_points", fits, "No line passes through all ten points.")

# %%
slope, intercept = (float(weight.item()) for weight in model.get_weights())
outputs = predict_line(slope, intercept, x)
rmse = root_mean_squared_error(outputs, y)
print(f"m = {slope:.3f}, b = {intercept:.3f}, RMSE {rmse:.4f}")
run.finish(
    model,
    history,
    title="Gradient descent",
    metrics={
        "loss": mean_squared_error(outputs, y),
        "rmse": rmse,
        "loss_name": "mean squared error",
        "m": slope,
        "b": intercept,
    },
    samples=len(x),
)

# %% [markdown]
# ## 6. What to try next
# - `keras-course play`: drag the start, choose λ, and watch the descent.
# - `--epochs 10` and `--epochs 1000`: how close does it come?
# - Find the largest learning rate that still converges, by trial. Is it the one that was computed?
# - `--batch-size 1`: one point in each step. The path is no longer straight down. Lesson 02 shows why that can be good.
# - Move one of the ten points far away. How much does the line change? How much would it change with the mean absolute
#   error as the loss?
