# %% [markdown]
# # 18 · Digits with augmentation
# The digits of lesson 04 with convolutions and data augmentation, as in lessons 06 and 07. The network is smaller than
# that of lesson 04 and makes far fewer mistakes.
#
# - needs: one backend
# - data: MNIST, 60,000 + 10,000 digits (a sample of 10,000 + 2,000 ships with the package)
# - time: ten to thirty minutes on two cores, two to four with the sample
# - result: the few digits that are classified wrongly, and the held-out accuracy
#
# It is an extra, for any time after lesson 07. Run it with `keras-course run 18_digits_augmented`, with
# `python examples/18_digits_augmented.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Classifies handwritten digits with data augmentation.", epochs=18, batch_size=128)

# %% The backend is selected: now Keras can be imported.
import keras
import numpy as np

from keras_course import augmentation, evaluation, plots
from keras_course.datasets import mnist
from keras_course.models import cnn_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, predict_logits

# %% [markdown]
# ## 1. Data

# %%
source = mnist.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = mnist.load_data(source)
print(f"{mnist.describe(source)}: {len(x_train):,} digits for training, {len(x_valid):,} for validation")

# %% [markdown]
# ## 2. Look at it
# Which transforms keep the label? People write digits slightly slanted, stretched and rotated, and MNIST centers each
# digit: some degrees, a tenth of the size and two pixels are fine. Flips are not: a mirrored 2 is not a digit, and half
# a turn makes a 6 of a 9. The background is black here, so the area that comes in at the edges is black, too.

# %%
run = open_run("18_digits_augmented", options)
augment = augmentation.Augmentation(
    [
        augmentation.Rotation(10),
        augmentation.Zoom(0.9, 1.1, keep_ratio=False),
        augmentation.Shear(8),
        augmentation.Shift(0.07, 0.07),
    ],
    seed=options.seed,
)
variants = augment.apply(np.repeat(x_train[:5], 5, axis=0), step=0, xp=np)
in_training = plots.sample_pictures(variants, np.repeat(y_train[:5], 5), mnist.CLASS_NAMES)
run.add_figure("variants", in_training, "Digits as the network sees them in training: five variants of each.")

# %% [markdown]
# ## 3. Model
# The network of lesson 06 with ten classes instead of 24. Each block has two convolutions: one covers 3×3 pixels, two
# in a row cover 5×5, and the second combines the patterns that the first finds, so fewer filters are enough. The dense
# layer, which has most of the parameters, is half as wide.

# %%
model = cnn_classifier(
    input_shape=mnist.INPUT_SHAPE,
    filters=(16, 32, 64),
    convolutions=2,
    dense=256,
    num_classes=len(mnist.CLASS_NAMES),
    dropout=(0.0, 0.1, 0.2),
    dense_dropout=0.5,
    seed=options.seed,
)
if not options.quiet:
    print(format_parameter_table(parameter_table(model)))

# %% [markdown]
# ## 4. Train
# The learning rate warms up while batch normalization sees its first batches, and then decreases along half a cosine.

# %%
steps = options.epochs * -(-len(x_train) // options.batch_size)
schedule = keras.optimizers.schedules.CosineDecay(
    0.0, decay_steps=steps - steps // 20, warmup_target=0.002, warmup_steps=steps // 20
)
history = fit(
    model,
    (x_train, y_train),
    (x_valid, y_valid),
    optimizer=keras.optimizers.Adam(schedule),
    epochs=options.epochs,
    batch_size=options.batch_size,
    seed=options.seed,
    augmentation=augment,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
)
run.add_figure("curves", plots.training_curves(history), "Loss and accuracy after each epoch.")

# %% [markdown]
# ## 5. Evaluate
# So few mistakes are left that you can look at each one. Would you have classified them correctly?

# %%
logits = predict_logits(model, x_valid)
wrong = np.count_nonzero(logits.argmax(axis=-1) != y_valid)
print(f"{wrong:,} of {len(x_valid):,} held-out digits are classified wrongly")
mistakes = plots.most_wrong(x_valid, y_valid, logits, mnist.CLASS_NAMES, count=40)
run.add_figure("most_wrong", mistakes, "The mistakes with the highest confidence.")

# %%
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(mnist.CLASS_NAMES))
confusion = plots.confusion_matrix(matrix, mnist.CLASS_NAMES)
run.add_figure("confusion_matrix", confusion, "Each digit, and what it was classified as.")

# %%
accuracy = evaluation.accuracy(logits, y_valid)
print(f"accuracy {accuracy:.2%} on {len(x_valid):,} held-out digits")
run.finish(
    model,
    history,
    title="Digits with augmentation",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, y_valid),
        "per_class": evaluation.per_class(matrix, mnist.CLASS_NAMES),
    },
    samples=len(x_train),
    card=mnist.card("Handwritten digits, with augmentation", source),
)

# %% [markdown]
# ## 6. What to try next
# - `augmentation=None` in section 4: how many of the mistakes come back?
# - Add `augmentation.Flip(horizontal=True)`. For which digits does the accuracy fall?
# - One convolution in each block, `convolutions=1`, and twice the filters. There are more parameters; is it faster, and
#   are there more mistakes?
# - `fill="nearest"` in section 2: what comes in at the edges now, and does it change the accuracy?
# - How small can the network be? Try `filters=(8, 16, 32)` and `dense=64`.
# - Two people classify the digits of `figures/most_wrong.png`, each alone. How often do they agree?
