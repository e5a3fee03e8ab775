# %% [markdown]
# # 18 · Digits with augmentation
# The digits of lesson 04 once more, with what lessons 05 to 07 have found: convolutions, and pictures that are never
# twice the same. A net smaller than that of lesson 04 makes far fewer mistakes.
#
# - needs: one backend
# - data: MNIST, 60,000 + 10,000 digits (a sample of 10,000 + 2,000 ships with the package)
# - time: ten to thirty minutes on two cores, two to four with the sample
#
# It is an extra, which any time after lesson 07 is right for. Run it with `keras-course run 18_digits_augmented`, with
# `python examples/18_digits_augmented.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import parse_options

LESSON = "18_digits_augmented"
options = parse_options("Reads digits that it has seen in ever new variants.", epochs=18, batch_size=128)

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import augmentation, evaluation, plots, report
from keras_course.datasets import mnist
from keras_course.models import cnn_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, open_run, predict_logits

# %% [markdown]
# ## 1. Data

# %%
source = mnist.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = mnist.load_data(source)
print(f"{mnist.describe(source)}: {len(x_train):,} digits to train on, {len(x_valid):,} to validate with")

# %% [markdown]
# ## 2. Look at it
# Which changes leave a digit what it is? People slant, stretch and turn their digits a little, and MNIST has centred
# each by its ink: some degrees, a tenth of the size, two pixels. A mirror is not among them, for a 2 in a mirror is no
# digit; nor is half a turn, which makes a 9 of a 6. Paper is black here, and so is what comes in from outside.

# %%
run = open_run(LESSON, options)
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
plots.save(plots.sample_pictures(variants, np.repeat(y_train[:5], 5), mnist.CLASS_NAMES), run.figures / "variants.png")

# %% [markdown]
# ## 3. Model
# The network of lesson 06 for hand signs, with ten answers in place of twenty-four. Each block has two convolutions.
# One looks at 3×3 pixels; two in a row look at 5×5, and the second makes patterns of patterns, so that fewer filters
# do. The dense layer, in which most of the parameters are, is half as wide.

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
# The step size rises for a moment, until the normalisation has seen some batches, and then falls along half a cosine.

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

# %% [markdown]
# ## 5. Evaluate
# So few mistakes are left that each can be looked at. Would you have known better?

# %%
logits = predict_logits(model, x_valid)
wrong = np.count_nonzero(logits.argmax(axis=-1) != y_valid)
print(f"{wrong:,} of {len(x_valid):,} new digits are misread")
plots.save(plots.training_curves(history), run.figures / "curves.png")

# %%
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(mnist.CLASS_NAMES))
plots.save(plots.confusion_matrix(matrix, mnist.CLASS_NAMES), run.figures / "confusion_matrix.png")

# %%
plots.save(plots.most_wrong(x_valid, y_valid, logits, mnist.CLASS_NAMES, count=40), run.figures / "most_wrong.png")

# %%
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=evaluation.accuracy(logits, y_valid),
    loss=evaluation.cross_entropy(logits, y_valid),
    samples=len(x_train),
    card=mnist.card("Handwritten digits, with augmentation", source),
    per_class=evaluation.per_class(matrix, mnist.CLASS_NAMES),
)
page = report.write_report(
    run.path,
    title="Digits with augmentation",
    captions={
        "variants": "Digits as the network sees them in training: five variants of each.",
        "curves": "Loss and accuracy, an epoch at a time.",
        "confusion_matrix": "Which digit is taken for which.",
        "most_wrong": "The mistakes that the network is surest of.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} digits; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `augmentation=None` in section 4: how many of the mistakes come back?
# - Add `augmentation.Flip(horizontal=True)` all the same. Which digits suffer?
# - One convolution a block, `convolutions=1`, and twice the filters. More parameters, fewer seconds; more mistakes?
# - `fill="nearest"` in section 2: what comes in from outside now, and does the network mind?
# - How small may the network be? Try `filters=(8, 16, 32)` and `dense=64`.
# - Read `figures/most_wrong.png` with somebody else, each alone. How often do the two of you agree?
