# %% [markdown]
# # 03 · Neurons
# From one neuron to a network: activations, the number of parameters, over-fitting, extrapolation, and the loss for
# probabilities.
#
# - needs: one backend
# - data: points that the lesson draws from the seed
# - time: half a minute on two cores
# - result: polynomials and networks of growing size that over-fit, and two neurons trained on two losses
#
# Run it with `keras-course run 03_neurons`, with `python examples/03_neurons.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("From one neuron to a network that over-fits.", epochs=40, batch_size=16)

# %% The backend is selected: now Keras can be imported.
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
# A *regression* predicts a number. Its data here are points around a curve that we know, y = sin(1.5 x), with noise: a
# few points for training, and others that show how well a model has found the curve.
#
# A *classification* predicts a class. Its data here are students: how many hours they studied, and whether they passed,
# 1, or not, 0. Chance plays a part, so the hours do not determine the result.

# %%
(x_train, y_train), (x_valid, y_valid) = noisy_points.load_data(seed=options.seed)
(hours, passed), (hours_valid, passed_valid) = exam.load_data(seed=options.seed)
print(f"{len(x_train)} points for training, {len(x_valid)} for validation")
print(f"{len(hours)} students for training, of whom {passed.sum():.0f} pass, {len(hours_valid)} for validation")

# %% [markdown]
# ## 2. Look at it
# The dashed curve is the true one, which the models do not know. The simplest model always predicts the mean of all y.

# %%
run = open_run("03_neurons", options)
x_line = np.linspace(noisy_points.LOW, noisy_points.HIGH, 301, dtype="float32")[:, np.newaxis]
y_line = noisy_points.truth(x_line)
mean = {"always the mean": (x_line, np.full_like(x_line, y_train.mean()))}
simplest = plots.regression_fits((x_train, y_train), (x_valid, y_valid), mean, truth=(x_line, y_line))
run.add_figure("points", simplest, "Noisy points, the true curve, and the mean as the simplest model.")

# %%
hours_line = np.linspace(0, exam.LONGEST, 201, dtype="float32")[:, np.newaxis]
students = {"true probability": exam.truth(hours_line)}
plots.points_with_probability(hours, passed, hours_line, students, x_label="hours of study", y_label="passed")

# %% [markdown]
# ## 3. Model
# ### One neuron
# A neuron multiplies each input by a weight, adds the products and a bias, and applies an activation σ to the sum:
#
# ŷ = σ(w₁x₁ + w₂x₂ + ... + b)
#
# With one input and no activation this is the straight line of lesson 01.

# %%
print("ŷ at x = 1 and x = 2 with w = 2, b = 1:", neuron([[1.0], [2.0]], w=[2.0], b=1.0).tolist())

# %% [markdown]
# ### Activations
# - *linear*: σ(x) = x.
# - *ReLU*: σ(x) = max(0, x). Negative sums become 0. Its slope is 0 or 1, so it is cheap to compute.
# - *sigmoid*: σ(x) = 1 / (1 + exp(-x)). Its values are between 0 and 1, like a probability.
# - *tanh*: σ(x) = 2 sigmoid(2x) - 1. A sigmoid between -1 and 1, centered on 0.
#
# The slope matters as much as the value, because gradient descent multiplies by it. Far from 0 a sigmoid is flat, so
# the neuron hardly learns there. The lines are the formulas in NumPy, the circles are what Keras computes.

# %%
x = np.linspace(-6, 6, 241)
x_points = np.linspace(-6, 6, 25).astype("float32")
by_formula = {name: (value(x), slope(x)) for name, (value, slope) in ACTIVATIONS.items()}
by_keras = {name: keras.ops.convert_to_numpy(keras.activations.get(name)(x_points)) for name in ACTIVATIONS}
difference = max(np.abs(ACTIVATIONS[name].value(x_points) - by_keras[name]).max() for name in ACTIVATIONS)
print(f"largest difference between the formulas and Keras: {difference:.1e}")
circles = {name: (x_points, values) for name, values in by_keras.items()}
figure = plots.activations(x, by_formula, points=circles)
run.add_figure("activations", figure, "Activations, and their slopes, by which the gradient is multiplied.")

# %% [markdown]
# ### Why activations are needed
# In a network the outputs of one layer are the inputs of the next. Without an activation between them, two layers are
# one linear layer:
#
# (x W₁ + b₁) W₂ + b₂ = x (W₁ W₂) + (b₁ W₂ + b₂)
#
# So a chain of linear layers of any length is one linear regression.

# %%
chain = linear_chain(input_size=3, units=(5, 4, 1), seed=options.seed)
weights, bias = multiply_out(chain)
samples = np.random.default_rng(options.seed).normal(size=(1000, 3)).astype("float32")
difference = np.abs(predict_logits(chain, samples) - (samples @ weights + bias)).max()
terms = [f"{w:+.3f} x{i}" for i, w in zip("₁₂₃", weights[:, 0], strict=True)]
print(f"{chain.count_params()} parameters in three layers are equivalent to {weights.size + bias.size}:")
print(f"ŷ = {' '.join(terms)} {bias[0]:+.3f}; largest difference from the chain: {difference:.1e}")

# %% [markdown]
# ### Counting parameters
# A dense layer of M neurons on N inputs has N × M weights and M biases: N × M + M parameters.

# %%
dense = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5, name="dense")])
print(format_parameter_table(parameter_table(dense)))

# %% [markdown]
# The same for the network of lesson 04. More than half of its parameters are in the first layer, because each of its
# neurons is connected to every pixel.

# %%
if not options.quiet:
    print(format_parameter_table(parameter_table(dense_classifier(seed=options.seed))))

# %% [markdown]
# ## 4. Train
# A model with more parameters can fit more curves. Two families of models of any size show what follows from this. The
# typical error of a model, in the unit of y, is the root of the mean squared error:
#
# RMSE = √( Σ (yᵢ - ŷᵢ)² / n )
#
# ### Polynomials of growing degree
# ŷ = w₀ + w₁x + w₂x² + ... + w_d x^d has d + 1 parameters, and least squares computes the best ones directly. With as
# many parameters as points the polynomial passes through all points, without any training error: it has learned the
# noise by heart.


# %%
def errors(predict):
    """Returns the RMSE on the training points and on the validation points."""
    pairs = ((x_train, y_train), (x_valid, y_valid))
    return [evaluation.root_mean_squared_error(predict(x), y) for x, y in pairs]


polynomials = {degree: fit_polynomial(x_train, y_train, degree) for degree in range(len(x_train))}
degrees = list(polynomials)
degree_errors = np.array([errors(polynomial) for polynomial in polynomials.values()])
best_degree = degrees[degree_errors[:, 1].argmin()]
for degree in (best_degree, degrees[-1]):
    in_training, in_validation = degree_errors[degree]
    print(f"degree {degree}: training RMSE {in_training:.2f}, validation RMSE {in_validation:.2f}")
shown = sorted({0, 1, 3, best_degree, 9, degrees[-1]})
fits = {f"degree {degree}": (x_line, polynomials[degree](x_line)) for degree in shown}
figure = plots.regression_fits((x_train, y_train), (x_valid, y_valid), fits, truth=(x_line, y_line))
run.add_figure(
    "polynomials", figure, "Polynomials: with a higher degree they come closer to the points, not to the true curve."
)

# %%
on_axis = np.where(degree_errors > 1e-6, degree_errors, np.nan)  # a logarithmic axis has no 0
figure = plots.size_against_error(
    degrees, *on_axis.T, x_label="degree of the polynomial", loss_label="RMSE (units of y)"
)
run.add_figure("polynomial_errors", figure, "Error of polynomials by degree: in training it falls to 0 at last.")

# %% [markdown]
# ### Networks of growing size
# The same with networks of two hidden layers of 1, 2, 4, ... neurons. The training points are repeated a hundred times
# in each epoch, because there are so few.

# %%
REPEATS = 100
LEARNING_RATE = 0.05


def train(model, data, **settings):
    """Trains with Adam; the learning rate decreases along half a cosine."""
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
figure = plots.regression_fits((x_train, y_train), (x_valid, y_valid), fits, truth=(x_line, y_line))
run.add_figure("networks", figure, "Networks of growing size on the same points.")

# %%
figure = plots.size_against_error(
    [network.count_params() for network in networks.values()],
    *network_errors.T,
    x_label="parameters of the network",
    loss_label="RMSE (units of y)",
    log=False,
)
run.add_figure("network_errors", figure, "Error of networks by number of parameters.")

# %% [markdown]
# ### The remedy: more data
# Now the largest network gets different points instead of copies of the few. The number of steps is the same, but it
# cannot learn all these points by heart.

# %%
(x_many, y_many), _ = noisy_points.load_data(count=REPEATS * len(x_train), seed=options.seed)
model = dense_regressor(hidden=(widths[-1], widths[-1]), seed=options.seed)
history = train(model, (x_many, y_many), run=run, log_steps=options.log_steps, progress=not options.quiet)

# %% [markdown]
# ## 5. Evaluate
# ### Training against validation
# With few points the training error keeps falling and the validation error does not follow. This gap *is* over-fitting.
# With many points the two stay close. What remains is the noise, which no model can predict.

# %%
figure = plots.training_curves(history, loss_label="mean squared error")
run.add_figure("curves", figure, "The largest network on many points: loss after each epoch.")

# %%
names = {f"{len(x_train)} points": few_history[widths[-1]], f"{len(x_many):,} points": history}
figure = plots.loss_curves(
    {name: (columns["epoch"], columns["loss"]) for name, columns in names.items()},
    validation={name: (columns["epoch"], columns["val_loss"]) for name, columns in names.items()},
    log=False,
)
run.add_figure("few_and_many", figure, "The same network on few points and on many; validation is dashed.")

# %% [markdown]
# ### Interpolation and extrapolation
# Between training points a model *interpolates*: the neighboring points determine it. Beyond the last point it
# *extrapolates*, and no data determines it. A polynomial grows without limit, a network continues as its activations
# do; neither knows that the curve comes back. More points in the same range do not change this.

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
    print(f"{name}: RMSE from the true curve {within:.2f} within the range, {beyond:,.2f} beyond it")
figure = plots.regression_fits(
    (x_train, y_train),
    (x_valid, y_valid),
    {name: (wide, predicted) for name, predicted in predictions.items()},
    truth=(wide, noisy_points.truth(wide)),
    inside=(noisy_points.LOW, noisy_points.HIGH),
)
run.add_figure("extrapolation", figure, "Within the range of the training points, and beyond it.")

# %% [markdown]
# ### A loss for probabilities
# A classifier predicts a probability p̂; a sigmoid turns any number into one. How wrong is it? Say that the event
# happened, and the model had predicted the probability p̂. Its RMSE is 1 - p̂, at most 1, even if the model was certain
# that the event would not happen. The *cross entropy*, -log(p̂), grows without limit: certainty in a wrong answer costs
# infinitely much.

# %%
p = np.linspace(0, 1, 501)
wrongness = {
    "RMSE": np.array([evaluation.root_mean_squared_error([value], [1.0]) for value in p]),
    "cross entropy": np.array([evaluation.binary_cross_entropy([value], [1]) for value in p]),
}
figure = plots.curves(
    p, wrongness, x_label="predicted probability of what happened", y_label="RMSE, cross entropy (nats)"
)
run.add_figure("wrongness", figure, "RMSE and cross entropy by the predicted probability of what happened.")

# %% [markdown]
# The mean over many predictions, with y = 1 where the event happened and y = 0 where not, is the *binary cross entropy*
#
# BCE = -(1/n) Σ [ yᵢ log(p̂ᵢ) + (1 - yᵢ) log(1 - p̂ᵢ) ]
#
# Keras computes the same, up to rounding, with one difference: it moves p̂ slightly away from 0 and 1, so that the loss
# is never infinite.

# %%
answers, happened = np.array([[0.9], [0.6], [0.2], [0.01]], "float32"), np.array([[1], [1], [0], [0]], "float32")
bce = keras.losses.BinaryCrossentropy()
surprises = [-np.log(answer if y else 1 - answer) for answer, y in zip(answers[:, 0], happened[:, 0], strict=True)]
print("-log of the probability of what happened:", ", ".join(f"{surprise:.4f}" for surprise in surprises))
print(f"BCE by hand {evaluation.binary_cross_entropy(answers, happened):.6f}, Keras {bce(happened, answers):.6f}")
certain, one = np.zeros((1, 1), "float32"), np.ones((1, 1), "float32")
print(f"certain and wrong: by hand {evaluation.binary_cross_entropy(certain, one)}, Keras {bce(one, certain):.2f}")

# %% [markdown]
# ### The effect on training
# One neuron with a sigmoid learns who passes. It starts with the opposite: the more hours, the lower the probability.
# It is trained once on the mean squared error and once on the cross entropy, with the same start and the same steps.
# Both are evaluated by RMSE.
#
# With z the sum before the sigmoid, the slopes are ∂(p̂ - y)²/∂z = 2 (p̂ - y) p̂ (1 - p̂) and ∂BCE/∂z = p̂ - y. If p̂ is
# close to 0 or 1, the first slope is close to 0, whether p̂ is right or wrong: with the squared error a confident neuron
# does not learn. The second slope is largest where the neuron is wrong.

# %%
START = (-2.0, 8.0)


def sigmoid_neuron():
    """Returns one neuron that predicts the opposite with high confidence."""
    neuron = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid", name="passes")])
    neuron.set_weights([np.array([[START[0]]], "float32"), np.array([START[1]], "float32")])
    return neuron


losses = {"mean squared error": keras.losses.MeanSquaredError(), "cross entropy": keras.losses.BinaryCrossentropy()}
rmse_by_epoch, learned = {}, {"true probability": exam.truth(hours_line)}
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
    print(f"trained on {name}: RMSE {rmse:.3f}, cross entropy {cross_entropy:.3f} nats, accuracy {right:.0%}")
figure = plots.loss_curves(rmse_by_epoch, loss_label="RMSE of the probability")
run.add_figure("confidence", figure, "A neuron that starts confident and wrong, trained on two losses.")

# %%
figure = plots.points_with_probability(hours, passed, hours_line, learned, x_label="hours of study")
run.add_figure("students", figure, "The predictions of the two neurons after training.")

# %%
predicted = predict_logits(model, x_valid)
rmse = evaluation.root_mean_squared_error(predicted, y_valid)
noise = evaluation.root_mean_squared_error(noisy_points.truth(x_valid), y_valid)
print(f"RMSE {rmse:.4f} on {len(x_valid)} validation points; the true curve has {noise:.4f}")
run.finish(
    model,
    history,
    title="Neurons",
    metrics={
        "loss_name": "mean squared error",
        "loss": evaluation.mean_squared_error(predicted, y_valid),
        "rmse": rmse,
    },
    samples=len(x_many),
)

# %% [markdown]
# ## 6. What to try next
# - `--seed 1`: other noise. Which degree is best now? How reliable is the choice by one validation set?
# - `--epochs 5`: early stopping is a remedy, too. Does the largest network still learn the few points by heart?
# - Draw more training points: `noisy_points.load_data(count=60)` in section 1. Which degree over-fits now?
# - `activation="relu"` for the networks of section 4. How do they extrapolate?
# - Start the neuron at `START = (0.0, 0.0)`, without any confidence. Are the two losses still so different?
# - Lesson 04 classifies digits with a network of more than a thousand neurons.
