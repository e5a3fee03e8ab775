# %% [markdown]
# # 04 · MNIST with a dense network
# Handwritten digits, read by a network of densely connected layers that has never heard of pictures.
#
# - needs: one backend
# - data: MNIST, 60,000 + 10,000 digits (a sample of 10,000 + 2,000 ships with the package)
# - time: half a minute on two cores
#
# Run it with `keras-course run 04_mnist_dense`, with `python examples/04_mnist_dense.py`, or cell by cell in
# JupyterLab.

# %%
from keras_course.lesson import parse_options

LESSON = "04_mnist_dense"
options = parse_options("Reads handwritten digits with a dense network.", epochs=5, batch_size=32)

# %% The backend is chosen: now Keras may be imported.
import keras

from keras_course import evaluation, plots, report
from keras_course.datasets import mnist
from keras_course.models import dense_classifier
from keras_course.training import fit, open_run, predict_logits

# %% [markdown]
# ## 1. Data
# A digit is 28×28 pixels from 0 (black) to 255 (white). Most of the digits are for training; the rest, which the
# network never learns from, tell how well it reads digits that are new to it.

# %%
source = mnist.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = mnist.load_data(source)
print(
    f"{len(x_train):,} digits to train on, {len(x_valid):,} to validate with; one is {x_train[0].shape} {x_train.dtype}"
)

# %% [markdown]
# ## 2. Look at it

# %%
run = open_run(LESSON, options)
digits = plots.sample_pictures(x_train, y_train, mnist.CLASS_NAMES)
digits

# %% [markdown]
# ## 3. Model
# The picture is flattened to 784 numbers. Two hidden layers of 512 units look at all of them at once; the last layer
# gives a score, a *logit*, to each of the ten digits. A dense layer of M units on N inputs has N × M weights and M
# biases.

# %%
model = dense_classifier(input_shape=mnist.INPUT_SHAPE, hidden=(512, 512), num_classes=10, seed=options.seed)
if not options.quiet:
    model.summary()

# %% [markdown]
# ## 4. Train
# Each step shows the network one batch of digits and moves every weight a little in the direction that would have made
# the cross entropy of that batch smaller. The step size starts at 0.001 and falls to nothing along half a cosine, so
# that the weights come to rest at the end instead of jittering around a good place.

# %%
steps = options.epochs * -(-len(x_train) // options.batch_size)
optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.001, decay_steps=steps))
history = fit(
    model,
    (x_train, y_train),
    (x_valid, y_valid),
    optimizer=optimizer,
    epochs=options.epochs,
    batch_size=options.batch_size,
    seed=options.seed,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
)

# %% [markdown]
# ## 5. Evaluate
# The confusion matrix says which digits are taken for which. The mistakes of which the network is surest are worth a
# look: some of them a person would make, too.

# %%
logits = predict_logits(model, x_valid)
plots.save(plots.training_curves(history), run.figures / "curves.png")

# %%
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=10)
plots.save(plots.confusion_matrix(matrix, mnist.CLASS_NAMES), run.figures / "confusion_matrix.png")

# %%
plots.save(plots.most_wrong(x_valid, y_valid, logits, mnist.CLASS_NAMES), run.figures / "most_wrong.png")

# %%
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=evaluation.accuracy(logits, y_valid),
    loss=evaluation.cross_entropy(logits, y_valid),
    samples=len(x_train),
    card=mnist.card("Handwritten digits, with a dense network", source),
    per_class=evaluation.per_class(matrix, mnist.CLASS_NAMES),
)
plots.save(digits, run.figures / "digits.png")
page = report.write_report(
    run.path,
    title="MNIST with a dense network",
    captions={
        "digits": "Digits to train on, each under its label.",
        "curves": "Loss and accuracy, an epoch at a time.",
        "confusion_matrix": "Which digit is taken for which.",
        "most_wrong": "The mistakes that the network is surest of.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} digits; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `--seed 1`: other initial weights, another order of the digits. How much does the accuracy depend on luck?
# - `--batch-size 512`: fewer, larger steps. Is it faster? Is it as good?
# - `--backend torch`: the same seed on another backend. Compare the losses of the first epochs.
# - Make the network smaller in section 3. How few units still read 97 % of the digits?
# - Lesson 05 gives the same network a harder task, and it over-fits.
