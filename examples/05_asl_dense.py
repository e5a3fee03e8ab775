# %% [markdown]
# # 05 · Hand signs with a dense network
# The network of lesson 04 classifies the letters of the American Sign Language alphabet. It learns the training
# pictures by heart and fails on new ones: it over-fits.
#
# - needs: one backend
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones if there are no real ones)
# - time: half a minute on two cores
# - result: learning curves that part, a confusion matrix, and the accuracy on training and on held-out pictures
#
# Run it with `keras-course run 05_asl_dense`, with `python examples/05_asl_dense.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Classifies hand signs with a dense network, which over-fits.", epochs=20, batch_size=32)

# %% The backend is selected: now Keras can be imported.
import keras
import numpy as np

from keras_course import evaluation, plots
from keras_course.datasets import asl
from keras_course.models import dense_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, predict_logits

# %% [markdown]
# ## 1. Data
# The pictures show the letters A to Y without J; J and Z are movements. `asl.load_data` reads Sign Language MNIST from
# Kaggle, the photos of ASL-HG, or a folder of photos. If there is no data, it draws hands.

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures for training, {len(x_valid):,} for validation")

# %% [markdown]
# ## 2. Look at it

# %%
run = open_run("05_asl_dense", options)
signs = plots.sample_pictures(x_train, y_train, asl.CLASS_NAMES)
run.add_figure("signs", signs, "Training pictures with their letters.")

# %% [markdown]
# ### Series of near-copies
# Training pictures often come in series: frames of one film, or one photo that was rotated, shifted and brightened. A
# random split of such a collection puts copies of one photo into both parts. A network that has learned the photo by
# heart then seems to generalize. `asl.near_copies` finds the series, and `asl.load_data(..., split="grouped")` keeps
# each series in one part.

# %%
series = asl.near_copies(x_train, y_train)
longest = np.bincount(series).argmax()
known = asl.has_near_copy((x_valid, y_valid), (x_train, y_train))
print(f"{series.max() + 1:,} series for training; {known.mean():.0%} of the validation pictures have a copy among them")
copies = plots.sample_pictures(x_train[series == longest], y_train[series == longest], asl.CLASS_NAMES, count=10)
run.add_figure("series", copies, "The longest series of near-copies.")

# %% [markdown]
# ## 3. Model
# It is the network of lesson 04 with 24 logits instead of 10. It has more than a hundred parameters for each training
# picture: enough to store them all.

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
run.add_figure("curves", plots.training_curves(history), "Loss and accuracy after each epoch: the curves part.")

# %% [markdown]
# ## 5. Evaluate
# The training accuracy keeps rising, the validation accuracy does not, and the validation loss even grows: the network
# becomes more confident in its mistakes. This gap is *over-fitting*. The validation curve is also noisy: a small change
# of the weights can change the answers for new pictures a lot.

# %%
logits = predict_logits(model, x_valid)
on_training = evaluation.accuracy(predict_logits(model, x_train), y_train)
accuracy = evaluation.accuracy(logits, y_valid)
print(f"accuracy on the training pictures {on_training:.2%}, on the held-out ones {accuracy:.2%}")
for what, chosen in (("with a near-copy in training", known), ("without one", ~known)):
    if chosen.any():
        part = evaluation.accuracy(logits[chosen], y_valid[chosen])
        print(f"accuracy on {chosen.sum():,} held-out pictures {what}: {part:.2%}")

# %%
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(asl.CLASS_NAMES))
confusion = plots.confusion_matrix(matrix, asl.CLASS_NAMES)
run.add_figure("confusion_matrix", confusion, "Each letter, and what it was classified as.")

# %%
mistakes = plots.most_wrong(x_valid, y_valid, logits, asl.CLASS_NAMES)
run.add_figure("most_wrong", mistakes, "The mistakes with the highest confidence.")

# %%
print(f"accuracy {accuracy:.2%} on {len(x_valid):,} held-out hand signs")
run.finish(
    model,
    history,
    title="Hand signs with a dense network",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, y_valid),
        "per_class": evaluation.per_class(matrix, asl.CLASS_NAMES),
    },
    samples=len(x_train),
    card=asl.card("Hand signs, with a dense network", source),
)

# %% [markdown]
# ## 6. What to try next
# - `--epochs 3`: early stopping. How much of the accuracy is there already?
# - Make the network smaller in section 3, `"hidden": (32,)`. Does it over-fit less? Is it more accurate?
# - `asl.load_data(source, split="grouped")` in section 1: no near-copies in both parts. How accurate is it really?
# - `--data sample`: drawn hands, all different. How large is the gap now, and why?
# - Lesson 06 looks at small patches of the picture instead of all pixels at once.
