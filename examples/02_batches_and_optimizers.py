# %% [markdown]
# # 02 · Batches and optimizers
# What the batch size, the learning rate and the optimizer do to training, as families of runs that differ in nothing
# else.
#
# - needs: one backend
# - data: points around a line and around a wave, drawn from the seed
# - time: half a minute on two cores
#
# Run it with `keras-course run 02_batches_and_optimizers`, with `python examples/02_batches_and_optimizers.py`, or cell
# by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Compares batch sizes, learning rates and optimizers.", epochs=40, batch_size=16)

# %% The backend is chosen: now Keras may be imported.
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
# Points around a wave, with noise: some to train on, others to validate with.

# %%
(x_train, y_train), (x_valid, y_valid) = noisy_points.load_data(count=256, valid_count=64, seed=options.seed)
print(f"{len(x_train)} points to train on, {len(x_valid)} to validate with")

# %% [markdown]
# A step need not look at all the points. It may look at one of them (*stochastic* descent), at a few (a *mini-batch*),
# or at all (*full-batch*). A step is also called an *iteration*. When all the points have been looked at once, an
# *epoch* is over: iterations per epoch = samples / batch size, rounded up.

# %%
SIZES = [1, 16, len(x_train)]
for size in SIZES:
    steps = math.ceil(len(x_train) / size)
    print(
        f"batch size {size:>3}: {steps:>3} iterations an epoch, {options.epochs * steps:,} in {options.epochs} epochs"
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
run.add_figure(
    "points",
    plots.regression_fits(*points, {"before training": (grid, untrained)}, truth=wave),
    "Points around a wave, and what the network says before it has learned anything.",
)

# %% [markdown]
# ## 3. Model
# One input, a hidden layer of 16 units, one output. Its weights and biases are the *parameters*: training finds them.
# The learning rate, the batch size, the optimizer, the number of epochs and of units are *hyper-parameters*: a person
# chooses them, and this lesson is about how.

# %%
print(f"{model.count_params()} parameters")
for name in ("epochs", "batch_size", "seed"):
    print(f"hyper-parameter {name}: {getattr(options, name)}")

# %% [markdown]
# ## 4. Train
# ### Batches, where they can be seen
# A line has two parameters, so its path can be drawn. All three runs start at the same place with the same learning
# rate. One point at a time the path staggers, because each point pulls its own way, but it comes far within an epoch.
# With all points it goes straight down, one step an epoch.

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
run.add_figure(
    "batches_on_the_surface",
    plots.loss_contours(*surface, paths=paths, panels=True),
    "A line's path with each batch size: one point, sixteen, all of them.",
)

# %% [markdown]
# The height of the same paths: the loss on all the points, after every step.

# %%
heights = {name: np.mean((path[:, :1] * x + path[:, 1:] - y) ** 2, axis=1) for name, path in paths.items()}
curves = {name: (np.linspace(0, EPOCHS, len(height)), height) for name, height in heights.items()}
run.add_figure(
    "batches",
    plots.loss_curves(curves),
    "How high these paths are: the loss on all the points.",
)

# %% [markdown]
# ### The batch size
# The same on the network. Each curve is the loss on all the points after each epoch; nothing but the batch size is
# different. Which is which? Look before you scroll.

# %%
network = {"loss": "mean_squared_error", "epochs": options.epochs, "seed": options.seed}
family = compare(model, *points, learning_rate=0.03, batch_size=[1, 8, 64, None], **network)
losses = {name: each.epoch_losses for name, each in family.items()}
question = "Which curve has the largest batch size?"
run.add_figure(
    "batch_size_riddle",
    plots.loss_curves(losses, legend=False, question=question),
    "Which curve has the largest batch size?",
)

# %%
run.add_figure(
    "batch_size",
    plots.loss_curves(losses, ordered=True),
    "The answer.",
)

# %% [markdown]
# Small batches make more steps of an epoch, so they come further in it; each step is noisier, so that they never quite
# come to rest; and each takes nearly as long as that of a large batch, which a computer works on all at once.
#
# ### The learning rate
# Again one thing is different. Which one?

# %%
family = compare(model, *points, learning_rate=[0.001, 0.01, 0.1, 0.3], batch_size=16, **network)
losses = {name: each.epoch_losses for name, each in family.items()}
question = "Which curve has the smallest learning rate?"
run.add_figure(
    "learning_rate_riddle",
    plots.loss_curves(losses, legend=False, question=question),
    "Which curve has the smallest learning rate?",
)

# %%
run.add_figure(
    "learning_rate",
    plots.loss_curves(losses, ordered=True),
    "The answer.",
)
for name, each in family.items():
    print(f"{name}: {each.diverged or f'mean squared error of the validation points {each.val_losses[-1]:.4f}'}")

# %% [markdown]
# ### Optimizers
# Plain descent (SGD) knows nothing but the gradient under its feet. The others remember:
#
# - *momentum* keeps its velocity, as a ball does: v ← 0.9 v + g, θ ← θ − λ v;
# - *Adagrad* divides each parameter's step by the root of all its squared gradients so far: it slows down for ever;
# - *RMSprop* divides by the root of their running mean, and so forgets;
# - *Adam* does both, momentum and RMSprop.
#
# First a long valley, twenty times as steep across as along. Each optimizer goes with five learning rates, twenty-five
# runs in one call; the picture shows the best of each.

# %%
RATES = [0.01, 0.03, 0.1, 0.3, 1.0]


def best_of_each(surface, steps):
    """The run of each optimizer that ended lowest."""
    family = compare(surface.loss, start=surface.start, optimizer=list(UPDATE_RULES), learning_rate=RATES, epochs=steps)
    best = {}
    for rule in UPDATE_RULES.values():
        runs = [each for each in family.values() if each.optimizer == rule.title and not each.diverged]
        best[rule.title] = min(runs, key=lambda each: each.epoch_losses[-1])
    return best


def paths_on(surface, best):
    """Draws the ways that the optimizers took."""
    return plots.loss_contours(
        *loss_surface(surface.loss, surface.bounds),
        paths={f"{title}, λ = {each.learning_rate:g}": each.path for title, each in best.items()},
        minima=surface.minima,
        labels=("p", "q"),
        loss_label="loss",
        title=f"{surface.title}: {surface.formula}",
    )


best = best_of_each(LONG_VALLEY, 60)
run.add_figure(
    "long_valley",
    paths_on(LONG_VALLEY, best),
    "Five optimizers in a long valley, each with the best of five learning rates.",
)

# %%
losses = {title: each.epoch_losses for title, each in best.items()}
run.add_figure(
    "long_valley_curves",
    plots.loss_curves(losses, x_label="step", loss_label="loss"),
    "Their losses.",
)

# %% [markdown]
# Then a surface with several minima. Where a run ends depends on the start, on the optimizer, on the learning rate: a
# loss can be low without being the lowest. With thousands of parameters, most hollows turn out to be about as good.

# %%
best = best_of_each(SEVERAL_MINIMA, 100)
run.add_figure(
    "several_minima",
    paths_on(SEVERAL_MINIMA, best),
    "The same on a surface with several minima. The white crosses are where it is lowest around.",
)

# %%
losses = {title: each.epoch_losses for title, each in best.items()}
run.add_figure(
    "several_minima_curves",
    plots.loss_curves(losses, x_label="step", loss_label="loss"),
    "Their losses.",
)

# %% [markdown]
# ### The network
# Adam at its usual learning rate of 0.01 for small networks, in mini-batches.

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
run.add_figure(
    "curves",
    plots.training_curves(history, loss_label="mean squared error"),
    "The network, trained by Adam.",
)

# %% [markdown]
# ## 5. Evaluate
# Validation decides, not the training loss. No network can come below the noise in the points: its variance is the
# smallest mean squared error that is to be had.

# %%
outputs = predict_logits(model, x_valid)
fitted = {"before training": (grid, untrained), "after training": (grid, predict_logits(model, grid))}
run.add_figure(
    "fit",
    plots.regression_fits(*points, fitted, truth=wave),
    "What it has learned.",
)
noise = evaluation.mean_squared_error(noisy_points.truth(x_valid), y_valid)
print(f"the noise alone: {noise:.4f}")

# %%
metrics = run.save_results(
    model,
    history,
    options,
    loss=evaluation.mean_squared_error(outputs, y_valid),
    rmse=evaluation.root_mean_squared_error(outputs, y_valid),
    loss_name="mean squared error",
    noise=noise,
    samples=len(x_train),
)
page = report.write_report(
    run.path,
    title="Batches and optimizers",
    captions={
        "points": "Points around a wave, and what the network says before it has learned anything.",
        "batches_on_the_surface": "A line's path with each batch size: one point, sixteen, all of them.",
        "batches": "How high these paths are: the loss on all the points.",
        "batch_size_riddle": "Which curve has the largest batch size?",
        "batch_size": "The answer.",
        "learning_rate_riddle": "Which curve has the smallest learning rate?",
        "learning_rate": "The answer.",
        "long_valley": "Five optimizers in a long valley, each with the best of five learning rates.",
        "long_valley_curves": "Their losses.",
        "several_minima": "The same on a surface with several minima. The white crosses are where it is lowest around.",
        "several_minima_curves": "Their losses.",
        "curves": "The network, trained by Adam.",
        "fit": "What it has learned.",
    },
)
run.close()
print(f"validation: RMSE {metrics['rmse']:.4f}, MSE {metrics['loss']:.4f}; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `--seed 1`: other points, other weights, another order. Which differences between the curves were luck?
# - `--batch-size 256 --epochs 40`: how much larger must Adam's learning rate be to make up for the missing steps?
# - Give momentum a shorter memory: `UpdateRule(title="short", velocity_decay=0.5)` is an optimizer of your own.
# - On the surface with several minima, start at (0, 0). Who ends where?
# - Which learning rate is the best for a batch size of 1, and which for 64? `compare` takes lists of both.
