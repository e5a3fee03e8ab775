# %% [markdown]
# # 03 · Neurons
# From one neuron to a network: what an activation is for, how parameters are counted, what a model that is too large
# does to noisy points, and why a probability is not judged by its squared error.
#
# - needs: one backend
# - data: points that the lesson draws itself
# - time: half a minute on two cores
#
# Run it with `keras-course run 03_neurons`, with `python examples/03_neurons.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Puts neurons together, and lets them learn too much.", epochs=40, batch_size=16)

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import evaluation, plots
from keras_course.datasets import exam, noisy_points
from keras_course.models import (
    ACTIVATIONS,
    dense_classifier,
    dense_regressor,
    fit_polynomial,
    format_parameter_table,
    linear_chain,
    multiply_out,
    neuron,
    parameter_table,
)
from keras_course.training import fit, predict_logits

# %% [markdown]
# ## 1. Data
# A *regression* answers with a number. Its data here are points around a curve that we know, y = sin(1.5 x), each with
# some noise: a few points to learn from, and others that only tell how well a model has found the curve behind them.
#
# A *classification* answers with a class. Its data here are students: how many hours they studied, and whether they
# passed, 1, or not, 0. Luck decides, too, so that no number of hours is sure.

# %%
(x_train, y_train), (x_valid, y_valid) = noisy_points.load_data(seed=options.seed)
(hours, passed), (hours_valid, passed_valid) = exam.load_data(seed=options.seed)
print(f"{len(x_train)} points to train on, {len(x_valid)} to validate with")
print(f"{len(hours)} students, of whom {passed.sum():.0f} pass, and {len(hours_valid)} to validate with")

# %% [markdown]
# ## 2. Look at it
# The dashed curve is the truth, which a model never sees. The simplest model of all says the mean of all y,
# wherever it is asked.

# %%
run = open_run("03_neurons", options)
x_line = np.linspace(noisy_points.LOW, noisy_points.HIGH, 301, dtype="float32")[:, np.newaxis]
y_line = noisy_points.truth(x_line)
mean = {"always the mean": (x_line, np.full_like(x_line, y_train.mean()))}
run.add_figure(
    "points",
    plots.regression_fits((x_train, y_train), (x_valid, y_valid), mean, truth=(x_line, y_line)),
    "Few points, and the curve that they are noisy samples of.",
)

# %%
hours_line = np.linspace(0, exam.LONGEST, 201, dtype="float32")[:, np.newaxis]
students = {"how likely it really is": exam.truth(hours_line)}
plots.points_with_probability(hours, passed, hours_line, students, x_label="hours of study", y_label="passed")

# %% [markdown]
# ## 3. Model
# ### One neuron
# A neuron multiplies each input by a weight, adds the products and a bias, and sends the sum through an activation σ:
#
# ŷ = σ(w₁x₁ + w₂x₂ + ... + b)
#
# With one input and no activation that is the straight line of lesson 01.

# %%
print("ŷ at x = 1 and x = 2 with w = 2, b = 1:", neuron([[1.0], [2.0]], w=[2.0], b=1.0).tolist())

# %% [markdown]
# ### Activations
# - *linear*: σ(x) = x. What comes in goes out.
# - *ReLU*: σ(x) = max(0, x). Cuts off what is negative. Its slope is 0 or 1, so it costs next to nothing.
# - *sigmoid*: σ(x) = 1 / (1 + exp(-x)). From 0 to 1, as a probability is.
# - *tanh*: σ(x) = 2 sigmoid(2x) - 1. A sigmoid from -1 to 1: smooth, and centred on 0.
#
# The slope matters as much as the value, because gradient descent multiplies by it. Far from 0 a sigmoid is flat, and a
# neuron hardly learns there. The lines are the formulas in NumPy, the circles are what Keras computes.

# %%
x = np.linspace(-6, 6, 241)
x_points = np.linspace(-6, 6, 25).astype("float32")
by_formula = {name: (value(x), slope(x)) for name, (value, slope) in ACTIVATIONS.items()}
by_keras = {name: keras.ops.convert_to_numpy(keras.activations.get(name)(x_points)) for name in ACTIVATIONS}
difference = max(np.abs(ACTIVATIONS[name].value(x_points) - by_keras[name]).max() for name in ACTIVATIONS)
print(f"the formulas and Keras are {difference:.1e} apart at most")
circles = {name: (x_points, values) for name, values in by_keras.items()}
run.add_figure(
    "activations",
    plots.activations(x, by_formula, points=circles),
    "What a neuron makes of its sum, and the slope by which it learns.",
)

# %% [markdown]
# ### Why there has to be an activation
# Neurons can be chained: the outputs of one layer are the inputs of the next. Without an activation in between, that
# gains nothing. The products multiply out,
#
# (x W₁ + b₁) W₂ + b₂ = x (W₁ W₂) + (b₁ W₂ + b₂),
#
# and what is left is one linear regression, however many layers there were.

# %%
chain = linear_chain(input_size=3, units=(5, 4, 1), seed=options.seed)
weights, bias = multiply_out(chain)
samples = np.random.default_rng(options.seed).normal(size=(1000, 3)).astype("float32")
difference = np.abs(predict_logits(chain, samples) - (samples @ weights + bias)).max()
terms = [f"{w:+.3f} x{i}" for i, w in zip("₁₂₃", weights[:, 0], strict=True)]
print(f"{chain.count_params()} parameters in three layers do the work of {weights.size + bias.size}:")
print(f"ŷ = {' '.join(terms)} {bias[0]:+.3f}, which is {difference:.1e} away from the chain at most")

# %% [markdown]
# ### Counting parameters
# A dense layer of M neurons on N inputs has N × M weights and M biases: N × M + M parameters.

# %%
dense = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5, name="dense")])
print(format_parameter_table(parameter_table(dense)))

# %% [markdown]
# The same for the network that reads digits in lesson 04. Nearly all of its parameters are in the first layer, as every
# neuron there looks at every pixel.

# %%
if not options.quiet:
    print(format_parameter_table(parameter_table(dense_classifier(seed=options.seed))))

# %% [markdown]
# ## 4. Train
# A model with more parameters can take on more shapes. Two kinds of models that can be made as large as one likes show
# what comes of it. How far off a model typically is, in the unit of y, is the root of the mean squared error:
#
# RMSE = √( Σ (yᵢ - ŷᵢ)² / n )
#
# ### Polynomials of growing degree
# ŷ = w₀ + w₁x + w₂x² + ... + w_d x^d has d + 1 parameters, and the best ones are found at once, by least squares. With
# as many parameters as there are points it passes through all of them: the training error is gone. It has learned the
# noise by heart.


# %%
def errors(predict):
    """RMSE on the points to train on and on those to validate with."""
    pairs = ((x_train, y_train), (x_valid, y_valid))
    return [evaluation.root_mean_squared_error(predict(x), y) for x, y in pairs]


polynomials = {degree: fit_polynomial(x_train, y_train, degree) for degree in range(len(x_train))}
degrees = list(polynomials)
degree_errors = np.array([errors(polynomial) for polynomial in polynomials.values()])
best_degree = degrees[degree_errors[:, 1].argmin()]
for degree in (best_degree, degrees[-1]):
    in_training, in_validation = degree_errors[degree]
    print(f"degree {degree}: RMSE {in_training:.2f} in training, {in_validation:.2f} on points that it has not seen")
shown = sorted({0, 1, 3, best_degree, 9, degrees[-1]})
fits = {f"degree {degree}": (x_line, polynomials[degree](x_line)) for degree in shown}
run.add_figure(
    "polynomials",
    plots.regression_fits((x_train, y_train), (x_valid, y_valid), fits, truth=(x_line, y_line)),
    "The higher the degree, the nearer to the points, but not to the truth.",
)

# %%
on_axis = np.where(degree_errors > 1e-6, degree_errors, np.nan)  # 0 but for rounding has no place on a logarithmic axis
run.add_figure(
    "polynomial_errors",
    plots.size_against_error(degrees, *on_axis.T, x_label="degree of the polynomial", loss_label="RMSE (units of y)"),
    "Error of polynomials by their degree: in training it only falls, at last to 0.",
)

# %% [markdown]
# ### Networks of growing size
# The same with two hidden layers of 1, 2, 4, ... neurons. A network goes through the few points again and again, a
# hundred times an epoch.

# %%
REPEATS = 100
LEARNING_RATE = 0.05


def train(model, data, **settings):
    """Trains by gradient descent with Adam; the steps become smaller along half a cosine."""
    steps = options.epochs * -(-len(data[0]) // options.batch_size)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, decay_steps=steps))
    return fit(
        model,
        data,
        (x_valid, y_valid),
        optimizer=optimizer,
        loss="mean_squared_error",
        metrics={},
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        **settings,
    )


few = (np.tile(x_train, (REPEATS, 1)), np.tile(y_train, (REPEATS, 1)))
widths = (1, 2, 4, 8, 16, 64)
networks = {width: dense_regressor(hidden=(width, width), seed=options.seed) for width in widths}
few_history = {width: train(network, few, progress=False) for width, network in networks.items()}

# %%
network_errors = np.array(
    [errors(lambda x, network=network: predict_logits(network, x)) for network in networks.values()]
)
fits = {
    f"2 × {width} neurons, {network.count_params():,} parameters": (x_line, predict_logits(network, x_line))
    for width, network in networks.items()
}
run.add_figure(
    "networks",
    plots.regression_fits((x_train, y_train), (x_valid, y_valid), fits, truth=(x_line, y_line)),
    "Networks of growing size on the same points.",
)

# %%
run.add_figure(
    "network_errors",
    plots.size_against_error(
        [network.count_params() for network in networks.values()],
        *network_errors.T,
        x_label="parameters of the network",
        loss_label="RMSE (units of y)",
        log=False,
    ),
    "Error of networks by their size.",
)

# %% [markdown]
# ### What helps: more points
# Now the largest of these networks gets as many different points as it has so far seen copies of the few. It takes the
# same number of steps, and can no longer learn each point by heart.

# %%
(x_many, y_many), _ = noisy_points.load_data(count=REPEATS * len(x_train), seed=options.seed)
model = dense_regressor(hidden=(widths[-1], widths[-1]), seed=options.seed)
history = train(model, (x_many, y_many), run=run, log_steps=options.log_steps, progress=not options.quiet)

# %% [markdown]
# ## 5. Evaluate
# ### Training against validation
# While the network learns the few points by heart, its training error goes on falling, and its validation error does
# not follow. That gap *is* over-fitting. With many points the two stay together. What remains is the noise, which no
# model can predict.

# %%
run.add_figure(
    "curves",
    plots.training_curves(history, loss_label="mean squared error"),
    "The largest network on many points, an epoch at a time.",
)

# %%
names = {f"{len(x_train)} points": few_history[widths[-1]], f"{len(x_many):,} points": history}
run.add_figure(
    "few_and_many",
    plots.loss_curves(
        {name: (columns["epoch"], columns["loss"]) for name, columns in names.items()},
        validation={name: (columns["epoch"], columns["val_loss"]) for name, columns in names.items()},
        log=False,
    ),
    "The same network, on few points and on many.",
)

# %% [markdown]
# ### Within the data and beyond them
# Between points that it has seen, a model *interpolates*: its neighbours hold it. Beyond the last of them it
# *extrapolates*, and nothing holds it. A polynomial shoots off, a network goes on as its activations do; neither knows
# that the curve comes back. More points in the same range do not change that.

# %%
wide = np.linspace(2 * noisy_points.LOW, 2 * noisy_points.HIGH, 601, dtype="float32")[:, np.newaxis]
inside = (wide >= noisy_points.LOW) & (wide <= noisy_points.HIGH)
predictions = {
    f"polynomial of degree {best_degree}": polynomials[best_degree](wide),
    f"network, {len(x_train)} points": predict_logits(networks[widths[-1]], wide),
    f"network, {len(x_many):,} points": predict_logits(model, wide),
}
for name, predicted in predictions.items():
    within, beyond = (
        evaluation.root_mean_squared_error(predicted[part], noisy_points.truth(wide[part]))
        for part in (inside, ~inside)
    )
    print(f"{name}: RMSE to the true curve {within:.2f} within the range, {beyond:,.2f} beyond it")
run.add_figure(
    "extrapolation",
    plots.regression_fits(
        (x_train, y_train),
        (x_valid, y_valid),
        {name: (wide, predicted) for name, predicted in predictions.items()},
        truth=(wide, noisy_points.truth(wide)),
        inside=(noisy_points.LOW, noisy_points.HIGH),
    ),
    "Within the range of the points and beyond it; the last network has seen more than are drawn.",
)

# %% [markdown]
# ### From a number to a probability
# For a class, the answer is a probability p̂, and sigmoid makes one of any number. How wrong is it? Say that something
# happened, and the model had given it the probability p̂. Its RMSE is 1 - p̂: at the very worst 1, even where the model
# had sworn that it would never happen. The *cross entropy*, -log(p̂), knows no such mercy. Misplaced confidence costs
# infinitely.

# %%
p = np.linspace(0, 1, 501)
wrongness = {
    "RMSE": np.array([evaluation.root_mean_squared_error([value], [1.0]) for value in p]),
    "cross entropy": np.array([evaluation.binary_cross_entropy([value], [1]) for value in p]),
}
run.add_figure(
    "wrongness",
    plots.curves(p, wrongness, x_label="probability given to what happened", y_label="RMSE, cross entropy (nats)"),
    "What it costs to have given too little probability to what happened.",
)

# %% [markdown]
# Over many answers, with y = 1 where it happened and y = 0 where it did not, that is the *binary cross entropy*
#
# BCE = -(1/n) Σ [ yᵢ log(p̂ᵢ) + (1 - yᵢ) log(1 - p̂ᵢ) ]
#
# By hand it is the same as in Keras, up to rounding. There is one difference: Keras moves p̂ a little away from 0 and 1,
# so that a training never meets infinity.

# %%
answers, happened = np.array([[0.9], [0.6], [0.2], [0.01]], "float32"), np.array([[1], [1], [0], [0]], "float32")
bce = keras.losses.BinaryCrossentropy()
surprises = [-np.log(answer if y else 1 - answer) for answer, y in zip(answers[:, 0], happened[:, 0], strict=True)]
print("surprises:", ", ".join(f"{surprise:.4f}" for surprise in surprises))
print(f"BCE by hand {evaluation.binary_cross_entropy(answers, happened):.6f}, Keras {bce(happened, answers):.6f}")
sworn, one = np.zeros((1, 1), "float32"), np.ones((1, 1), "float32")
print(f"sure of the wrong: by hand {evaluation.binary_cross_entropy(sworn, one)}, Keras {bce(one, sworn):.2f}")

# %% [markdown]
# ### What that means for training
# One neuron with a sigmoid learns who passes. It starts sure of the opposite: the more hours, the less likely. We train
# it once on the mean squared error and once on the cross entropy, from the same start with the same steps, and judge
# both by RMSE.
#
# With z the sum before the sigmoid, the slopes are ∂(p̂ - y)²/∂z = 2 (p̂ - y) p̂ (1 - p̂) and ∂BCE/∂z = p̂ - y. Where p̂ is
# close to 0 or 1, the first one is close to 0, whether p̂ is right or wrong: a neuron that is sure learns nothing
# from the squared error. The second one is largest where the neuron is wrong.

# %%
START = (-2.0, 8.0)


def sigmoid_neuron():
    """One neuron, sure of the opposite of what is true."""
    neuron = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid", name="passes")])
    neuron.set_weights([np.array([[START[0]]], "float32"), np.array([START[1]], "float32")])
    return neuron


losses = {"mean squared error": keras.losses.MeanSquaredError(), "cross entropy": keras.losses.BinaryCrossentropy()}
rmse_by_epoch, learned = {}, {"how likely it really is": exam.truth(hours_line)}
for name, loss in losses.items():
    student = sigmoid_neuron()
    columns = fit(
        student,
        (hours, passed),
        optimizer=keras.optimizers.SGD(0.3),
        loss=loss,
        metrics={"squared error": lambda labels, probabilities: keras.ops.square(labels - probabilities)},
        epochs=2 * options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        progress=False,
    )
    rmse_by_epoch[f"trained on {name}"] = (columns["epoch"], np.sqrt(columns["squared error"]))
    learned[f"trained on {name}"] = predict_logits(student, hours_line)
    probabilities = predict_logits(student, hours_valid)
    rmse = evaluation.root_mean_squared_error(probabilities, passed_valid)
    cross_entropy = evaluation.binary_cross_entropy(probabilities, passed_valid)
    right = ((probabilities > 0.5) == passed_valid).mean()
    print(f"trained on {name}: RMSE {rmse:.3f}, cross entropy {cross_entropy:.3f} nats, {right:.0%} right")
run.add_figure(
    "confidence",
    plots.loss_curves(rmse_by_epoch, loss_label="RMSE of the probability"),
    "A neuron that starts sure of the wrong, trained on two losses.",
)

# %%
run.add_figure(
    "students",
    plots.points_with_probability(hours, passed, hours_line, learned, x_label="hours of study"),
    "What the two neurons say in the end.",
)

# %%
predicted = predict_logits(model, x_valid)
metrics = run.save_results(
    model,
    history,
    options,
    loss_name="mean squared error",
    loss=evaluation.mean_squared_error(predicted, y_valid),
    rmse=evaluation.root_mean_squared_error(predicted, y_valid),
    samples=len(x_many),
)
page = report.write_report(
    run.path,
    title="Neurons",
    captions={
        "points": "Few points, and the curve that they are noisy samples of.",
        "activations": "What a neuron makes of its sum, and the slope by which it learns.",
        "polynomials": "The higher the degree, the nearer to the points, but not to the truth.",
        "polynomial_errors": "Error of polynomials by their degree: in training it only falls, at last to 0.",
        "networks": "Networks of growing size on the same points.",
        "network_errors": "Error of networks by their size.",
        "curves": "The largest network on many points, an epoch at a time.",
        "few_and_many": "The same network, on few points and on many.",
        "extrapolation": "Within the range of the points and beyond it; the last network has seen more than are drawn.",
        "wrongness": "What it costs to have given too little probability to what happened.",
        "confidence": "A neuron that starts sure of the wrong, trained on two losses.",
        "students": "What the two neurons say in the end.",
    },
)
run.close()
noise = evaluation.root_mean_squared_error(noisy_points.truth(x_valid), y_valid)
print(f"RMSE {metrics['rmse']:.4f} on {len(x_valid)} points, the truth itself has {noise:.4f}; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `--seed 1`: other noise. Which degree is the best now? How far can one trust the choice of a single validation set?
# - `--epochs 5`: stopping early is a remedy, too. Does the largest network still learn the few points by heart?
# - Draw more points to train on: `noisy_points.load_data(count=60)` in section 1. Which degree over-fits now?
# - `activation="relu"` for the networks of section 4. What do they look like beyond the range?
# - Let the neuron start at `START = (0.0, 0.0)`, sure of nothing. Are the two losses still so different?
# - Lesson 04 puts more than a thousand neurons together to read digits.
