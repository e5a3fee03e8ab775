# %% [markdown]
# # 05 · Hand signs with a dense network
# The network that reads digits is given the letters of the American Sign Language alphabet. It learns its pictures by
# heart, and fails at new ones: it over-fits.
#
# - needs: one backend
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones where there are no real ones)
# - time: half a minute on two cores
#
# Run it with `keras-course run 05_asl_dense`, with `python examples/05_asl_dense.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import parse_options

LESSON = "05_asl_dense"
options = parse_options("Reads hand signs with a dense network, which over-fits.", epochs=20, batch_size=32)

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import evaluation, plots, report
from keras_course.datasets import asl
from keras_course.models import dense_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, open_run, predict_logits

# %% [markdown]
# ## 1. Data
# The pictures show the letters A to Y without J; J and Z are movements. `asl.load_data` takes Sign Language MNIST from
# Kaggle, the photos of ASL-HG, or a folder of your own. Where there is nothing of that kind, it draws hands.

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures to train on, {len(x_valid):,} to validate with")

# %% [markdown]
# ## 2. Look at it

# %%
run = open_run(LESSON, options)
signs = plots.sample_pictures(x_train, y_train, asl.CLASS_NAMES)
signs

# %% [markdown]
# ### Series of near-copies
# Pictures for training often come in series: frames of one film, or one photo that was turned, moved and brightened.
# Who parts such a collection at random has copies of one photo on both sides. A network that has learned the photo by
# heart then looks as if it could read it. `asl.near_copies` finds the series, and `asl.load_data(..., split="grouped")`
# keeps each of them on one side.

# %%
series = asl.near_copies(x_train, y_train)
longest = np.bincount(series).argmax()
copies = plots.sample_pictures(x_train[series == longest], y_train[series == longest], asl.CLASS_NAMES, count=10)
known = asl.has_near_copy((x_valid, y_valid), (x_train, y_train))
print(f"{series.max() + 1:,} series to train on; {known.mean():.0%} of the validation pictures have a copy among them")
copies

# %% [markdown]
# ## 3. Model
# It is the network of lesson 04 with 24 logits in place of 10. It has more than a hundred parameters for each picture
# that it learns from: enough to store them all.

# %%
settings = {"hidden": (512, 512), "num_classes": len(asl.CLASS_NAMES)}
model = dense_classifier(input_shape=asl.INPUT_SHAPE, **settings, seed=options.seed)
if not options.quiet:
    print(format_parameter_table(parameter_table(model)))

# %% [markdown]
# ## 4. Train

# %%
history = fit(
    model,
    (x_train, y_train),
    (x_valid, y_valid),
    optimizer=keras.optimizers.Adam(0.001),
    epochs=options.epochs,
    batch_size=options.batch_size,
    seed=options.seed,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
)

# %% [markdown]
# ## 5. Evaluate
# The two curves part. In training the accuracy goes on to rise, in validation it does not, and the validation loss even
# grows: the network becomes surer of its mistakes. That gap is *over-fitting*. It jumps from epoch to epoch as well:
# what is learned by heart says little about new pictures, so that a small step in the one is a large one in the other.

# %%
logits = predict_logits(model, x_valid)
on_training = evaluation.accuracy(predict_logits(model, x_train), y_train)
on_validation = evaluation.accuracy(logits, y_valid)
print(f"{on_training:.2%} of the pictures it was trained on, {on_validation:.2%} of the new ones")
for what, chosen in (("with a near-copy in training", known), ("without one", ~known)):
    if chosen.any():
        print(f"of the {chosen.sum():,} new ones {what}: {evaluation.accuracy(logits[chosen], y_valid[chosen]):.2%}")
plots.save(plots.training_curves(history), run.figures / "curves.png")

# %%
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(asl.CLASS_NAMES))
plots.save(plots.confusion_matrix(matrix, asl.CLASS_NAMES), run.figures / "confusion_matrix.png")

# %%
plots.save(plots.most_wrong(x_valid, y_valid, logits, asl.CLASS_NAMES), run.figures / "most_wrong.png")

# %%
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=on_validation,
    loss=evaluation.cross_entropy(logits, y_valid),
    samples=len(x_train),
    card=asl.card("Hand signs, with a dense network", source),
    per_class=evaluation.per_class(matrix, asl.CLASS_NAMES),
)
plots.save(signs, run.figures / "signs.png")
plots.save(copies, run.figures / "series.png")
page = report.write_report(
    run.path,
    title="Hand signs with a dense network",
    captions={
        "signs": "Hand signs to train on, each under its letter.",
        "series": "The longest series of near-copies.",
        "curves": "Loss and accuracy, an epoch at a time: training and validation part.",
        "confusion_matrix": "Which letter is taken for which.",
        "most_wrong": "The mistakes that the network is surest of.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} hand signs; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `--epochs 3`: stopping early. How much of the accuracy is there already?
# - Make the network smaller in section 3, `"hidden": (32,)`. Does it over-fit less? Is it better?
# - `asl.load_data(source, split="grouped")` in section 1: no near-copies on both sides. How well does it really read?
# - `--data sample`: drawn hands, no two alike. How large is the gap now, and why?
# - Lesson 06 looks at small patches of the picture in place of all pixels at once.
