# %% [markdown]
# # 02 · Batches and optimizers
# How batch size, learning rate and optimizer affect training: in each comparison all else is equal.
#
# - needs: one backend
# - data: points around a line and around a wave, drawn from the seed
# - time: half a minute on two cores
# - result: loss curves and paths by batch size, learning rate and optimizer, first as questions, then with answers
#
# Run it with `keras-course run 02_batches_and_optimizers`, with `python examples/02_batches_and_optimizers.py`, or cell
# by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Compares batch sizes, learning rates and optimizers.", epochs=40, batch_size=16)

# %% The backend is selected: now Keras can be imported.
import math

import keras
import numpy as np

from keras_course import evaluation, plots
from keras_course.datasets import noisy_line, noisy_points
from keras_course.models import dense_regressor, line_loss
from keras_course.surfaces import LONG_VALLEY, SEVERAL_MINIMA
from keras_course.training import compare, fit, loss_surface, predict_logits
from keras_course.update_rules import UPDATE_RULES

# %% [markdown]
# ## 1. Data
# Points around a wave, with noise: some for training, others for validation.

# %%
(x_train, y_train), (x_valid, y_valid) = noisy_points.load_data(count=256, valid_count=64, seed=options.seed)
print(f"{len(x_train)} points for training, {len(x_valid)} for validation")

# %% [markdown]
# A step does not have to use all points. It can use one (*stochastic* gradient descent), a few (a *mini-batch*), or all
# (*full batch*). A step is also called an *iteration*. An *epoch* is over when all points have been used once:
# iterations per epoch = samples / batch size, rounded up.

# %%
SIZES = [1, 16, len(x_train)]
for size in SIZES:
    steps = math.ceil(len(x_train) / size)
    print(
        f"batch size {size:>3}: {steps:>3} iterations per epoch, {options.epochs * steps:,} in {options.epochs} epochs"
    )

# %% [markdown]
# ## 2. Look at it

# %%
run = open_run("02_batches_and_optimizers", options)
model = dense_regressor(hidden=(16,), seed=options.seed)
grid = np.linspace(noisy_points.LOW, noisy_points.HIGH, 200, dtype="float32")[:, None]
untrained = predict_logits(model, grid)
points = (x_train, y_train), (x_valid, y_valid)
wave = (grid, noisy_points.truth(grid))
before = plots.regression_fits(*points, {"before training": (grid, untrained)}, truth=wave)
run.add_figure("points", before, "Points around a wave, and the output of the untrained network.")

# %% [markdown]
# ## 3. Model
# One input, a hidden layer of 16 units, one output. Its weights and biases are the *parameters*; training finds them.
# The learning rate, the batch size, the optimizer, the number of epochs and of units are *hyper-parameters*; a person
# chooses them. This lesson shows how.

# %%
print(f"{model.count_params()} parameters")
for name in ("epochs", "batch_size", "seed"):
    print(f"hyper-parameter {name}: {getattr(options, name)}")

# %% [markdown]
# ## 4. Train
# ### Batches on the loss surface
# A line has two parameters, so its path can be drawn. All three runs have the same start and the same learning rate.
# With one point per step the path is irregular, because each point has its own gradient, but it comes far within an
# epoch. With all points it goes straight down, one step per epoch.

# %%
x, y = noisy_line.load_data(count=256, seed=options.seed)
EPOCHS = 8
family = compare(
    line_loss,
    (x, y),
    start=(-2.0, 3.0),
    learning_rate=0.05,
    batch_size=[1, 16, None],
    epochs=EPOCHS,
    seed=options.seed,
    paths=True,
)
surface = loss_surface(lambda m, b: line_loss(m, b, x, y), (-3.0, 4.5, -2.5, 4.0))
paths = {name: each.path for name, each in family.items()}
contours = plots.loss_contours(*surface, paths=paths, panels=True)
run.add_figure("batches_on_the_surface", contours, "The path of a line with three batch sizes.")

# %% [markdown]
# The loss on all points along the same paths, after each step:

# %%
heights = {name: np.mean((path[:, :1] * x + path[:, 1:] - y) ** 2, axis=1) for name, path in paths.items()}
curves = {name: (np.linspace(0, EPOCHS, len(height)), height) for name, height in heights.items()}
run.add_figure("batches", plots.loss_curves(curves), "The loss on all points along these paths.")

# %% [markdown]
# ### Batch size
# Now the network. Each curve is the loss on all points after each epoch; only the batch size differs. Which curve is
# which? Think before you scroll.

# %%
network = {"loss": "mean_squared_error", "epochs": options.epochs, "seed": options.seed}
family = compare(model, *points, learning_rate=0.03, batch_size=[1, 8, 64, None], **network)
losses = {name: each.epoch_losses for name, each in family.items()}
question = "Which curve has the largest batch size?"
run.add_figure("batch_size_riddle", plots.loss_curves(losses, legend=False, question=question), question)

# %%
run.add_figure("batch_size", plots.loss_curves(losses, ordered=True), "The answer.")

# %% [markdown]
# Small batches make more steps in an epoch, so the loss falls faster per epoch. Their gradients are noisier, so the
# loss keeps fluctuating at the end. A small step takes nearly as long as a large one, because a computer processes the
# samples of a batch in parallel.
#
# ### Learning rate
# Again only one thing differs.

# %%
family = compare(model, *points, learning_rate=[0.001, 0.01, 0.1, 0.3], batch_size=16, **network)
losses = {name: each.epoch_losses for name, each in family.items()}
question = "Which curve has the smallest learning rate?"
run.add_figure("learning_rate_riddle", plots.loss_curves(losses, legend=False, question=question), question)

# %%
run.add_figure("learning_rate", plots.loss_curves(losses, ordered=True), "The answer.")
for name, each in family.items():
    print(f"{name}: {each.diverged or f'validation MSE {each.val_losses[-1]:.4f}'}")

# %% [markdown]
# ### Optimizers
# Plain gradient descent (SGD) uses only the current gradient g. The other optimizers also use previous ones:
#
# - *momentum* keeps a velocity: v ← 0.9 v + g, θ ← θ − λ v;
# - *Adagrad* divides the step of each parameter by the root of the sum of all its squared gradients: its steps become
#   smaller and smaller;
# - *RMSprop* divides by the root of their running mean, so old gradients lose their influence;
# - *Adam* combines momentum and RMSprop.
#
# First a long valley, twenty times as steep across as along. Each optimizer runs with five learning rates, twenty-five
# runs in one call; the figure shows the best run of each optimizer.

# %%
RATES = [0.01, 0.03, 0.1, 0.3, 1.0]


def best_of_each(surface, steps):
    """Returns the run with the lowest final loss for each optimizer."""
    family = compare(surface.loss, start=surface.start, optimizer=list(UPDATE_RULES), learning_rate=RATES, epochs=steps)
    best = {}
    for rule in UPDATE_RULES.values():
        runs = [each for each in family.values() if each.optimizer == rule.title and not each.diverged]
        best[rule.title] = min(runs, key=lambda each: each.epoch_losses[-1])
    return best


def paths_on(surface, best):
    """Returns a figure with the paths of the optimizers."""
    return plots.loss_contours(
        *loss_surface(surface.loss, surface.bounds),
        paths={f"{title}, λ = {each.learning_rate:g}": each.path for title, each in best.items()},
        minima=surface.minima,
        labels=("p", "q"),
        loss_label="loss",
        title=f"{surface.title}: {surface.formula}",
    )


def losses_of(best):
    """Returns a figure with the losses of the optimizers."""
    losses = {title: each.epoch_losses for title, each in best.items()}
    return plots.loss_curves(losses, x_label="step", loss_label="loss")


best = best_of_each(LONG_VALLEY, 60)
run.add_figure(
    "long_valley", paths_on(LONG_VALLEY, best), "Five optimizers, each with the best of five learning rates."
)

# %%
run.add_figure("long_valley_curves", losses_of(best), "Their losses in the long valley.")

# %% [markdown]
# Then a surface with several minima. The minimum that a run finds depends on the start, the optimizer and the learning
# rate: it can be a local one. In networks with many parameters, most local minima are about as good as the best.

# %%
best = best_of_each(SEVERAL_MINIMA, 100)
minima = "The same on a surface with several minima; white crosses mark the minima."
run.add_figure("several_minima", paths_on(SEVERAL_MINIMA, best), minima)

# %%
run.add_figure("several_minima_curves", losses_of(best), "Their losses on the surface with several minima.")

# %% [markdown]
# ### The network
# Adam with mini-batches and a learning rate of 0.01, which is usual for small networks.

# %%
history = fit(
    model,
    *points,
    optimizer=keras.optimizers.Adam(0.01),
    loss="mean_squared_error",
    metrics={},
    epochs=options.epochs,
    batch_size=options.batch_size,
    seed=options.seed,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
)
training = plots.training_curves(history, loss_label="mean squared error")
run.add_figure("curves", training, "The network, trained by Adam.")

# %% [markdown]
# ## 5. Evaluate
# The validation loss counts, not the training loss. Its lower limit is the variance of the noise, which no network can
# predict.

# %%
outputs = predict_logits(model, x_valid)
fitted = {"before training": (grid, untrained), "after training": (grid, predict_logits(model, grid))}
run.add_figure("fit", plots.regression_fits(*points, fitted, truth=wave), "The network before and after training.")
noise = evaluation.mean_squared_error(noisy_points.truth(x_valid), y_valid)
print(f"MSE of the noise alone: {noise:.4f}")

# %%
mse, rmse = evaluation.mean_squared_error(outputs, y_valid), evaluation.root_mean_squared_error(outputs, y_valid)
print(f"validation: RMSE {rmse:.4f}, MSE {mse:.4f}")
run.finish(
    model,
    history,
    title="Batches and optimizers",
    metrics={"loss": mse, "rmse": rmse, "loss_name": "mean squared error", "noise": noise},
    samples=len(x_train),
)

# %% [markdown]
# ## 6. What to try next
# - `--seed 1`: other points, other weights, another order. Which differences between the curves were chance?
# - `--batch-size 256 --epochs 40`: how much larger must Adam's learning rate be to compensate for the fewer steps?
# - Reduce the momentum: `UpdateRule(title="short", velocity_decay=0.5)` defines a new optimizer.
# - On the surface with several minima, start at (0, 0). Which optimizer finds which minimum?
# - Which learning rate is best for a batch size of 1, and which for 64? `compare` takes lists of both.
