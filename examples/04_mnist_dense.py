# %% [markdown]
# # 04 · MNIST with a dense network
# A network of dense layers classifies handwritten digits.
#
# - needs: one backend
# - data: MNIST, 60,000 + 10,000 digits (a sample of 10,000 + 2,000 ships with the package)
# - time: half a minute on two cores
# - result: learning curves, a confusion matrix, the digits that are classified wrongly, and the accuracy on held-out
#   digits; README has measured values
#
# Run it with `keras-course run 04_mnist_dense`, with `python examples/04_mnist_dense.py`, or cell by cell in
# JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Classifies handwritten digits with a dense network.", epochs=5, batch_size=32)

# %% The backend is selected: now Keras can be imported.
import keras

from keras_course import evaluation, plots
from keras_course.datasets import mnist
from keras_course.models import dense_classifier
from keras_course.training import fit, predict_logits

# %% [markdown]
# ## 1. Data
# A digit has 28×28 pixels with values from 0 (black) to 255 (white). Most digits are for training. The others are held
# out: the network never learns from them, so they show how well it classifies new digits.

# %%
source = mnist.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = mnist.load_data(source)
print(
    f"{len(x_train):,} digits for training, {len(x_valid):,} for validation; shape {x_train[0].shape}, {x_train.dtype}"
)

# %% [markdown]
# ## 2. Look at it

# %%
run = open_run("04_mnist_dense", options)
digits = plots.sample_pictures(x_train, y_train, mnist.CLASS_NAMES)
run.add_figure("digits", digits, "Training digits with their labels.")

# %% [markdown]
# ## 3. Model
# The picture is flattened to 784 numbers. Two hidden layers of 512 units follow; the last layer computes one score, a
# *logit*, for each of the ten digits. A dense layer of M units on N inputs has N × M weights and M biases.

# %%
model = dense_classifier(input_shape=mnist.INPUT_SHAPE, hidden=(512, 512), num_classes=10, seed=options.seed)
if not options.quiet:
    model.summary()

# %% [markdown]
# ## 4. Train
# Each step takes one mini-batch of digits and changes every weight a little in the direction that reduces the cross
# entropy of the batch. The learning rate starts at 0.001 and decreases to 0 along half a cosine, so that the weights
# settle at the end instead of moving around a good solution.

# %%
steps = options.epochs * -(-len(x_train) // options.batch_size)
history = fit(
    model,
    (x_train, y_train),
    (x_valid, y_valid),
    optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.001, decay_steps=steps)),
    epochs=options.epochs,
    batch_size=options.batch_size,
    seed=options.seed,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
)
run.add_figure("curves", plots.training_curves(history), "Loss and accuracy after each epoch.")

# %% [markdown]
# ## 5. Evaluate
# The confusion matrix counts how often each digit is classified as each other one. Then come the mistakes with the
# highest confidence. Some of these digits are hard for people, too.

# %%
logits = predict_logits(model, x_valid)
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=10)
confusion = plots.confusion_matrix(matrix, mnist.CLASS_NAMES)
run.add_figure("confusion_matrix", confusion, "Each digit, and what it was classified as.")

# %%
mistakes = plots.most_wrong(x_valid, y_valid, logits, mnist.CLASS_NAMES)
run.add_figure("most_wrong", mistakes, "The mistakes with the highest confidence.")

# %%
accuracy = evaluation.accuracy(logits, y_valid)
print(f"accuracy {accuracy:.2%} on {len(x_valid):,} held-out digits")
run.finish(
    model,
    history,
    title="MNIST with a dense network",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, y_valid),
        "per_class": evaluation.per_class(matrix, mnist.CLASS_NAMES),
    },
    samples=len(x_train),
    card=mnist.card("Handwritten digits, with a dense network", source),
)

# %% [markdown]
# ## 6. What to try next
# - `--seed 1`: other initial weights and another order of the digits. How much does the accuracy change?
# - `--batch-size 512`: fewer, larger steps. Is it faster? Is it as accurate?
# - `--backend torch`: the same seed on another backend. Compare the losses of the first epochs.
# - Make the network smaller in section 3. How few units are enough for 97 %?
# - Lesson 05 trains the same network on a harder task, and it over-fits.
