# %% [markdown]
# # 06 · Hand signs with a convolutional network
# A convolution looks for one pattern everywhere in a picture. A convolutional network classifies hand signs better than
# a dense network, with fewer parameters.
#
# - needs: one backend
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones if there are no real ones)
# - time: two minutes on two cores
# - result: kernels, feature maps and Grad-CAM pictures, and the held-out accuracy of both networks
#
# Run it with `keras-course run 06_asl_cnn`, with `python examples/06_asl_cnn.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Classifies hand signs with a convolutional network.", epochs=15, batch_size=64)

# %% The backend is selected: now Keras can be imported.
import keras
import numpy as np

from keras_course import evaluation, explain, plots
from keras_course.datasets import asl
from keras_course.models import cnn_classifier, dense_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, predict_logits

# %% [markdown]
# ## 1. Data

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures for training, {len(x_valid):,} for validation")

# %% [markdown]
# ## 2. Look at it
# ### A kernel
# A *kernel* is a small table of numbers. It is placed on a patch of the picture, each pixel is multiplied by the number
# on it, and the products are added: the sum is one pixel of the result. Then the kernel moves to the next patch. This
# kernel has negative numbers in the first column and positive ones in the last: the sum is large where the picture
# becomes brighter from left to right.

# %%
run = open_run("06_asl_cnn", options)
picture = x_train[np.flatnonzero(y_train == asl.CLASS_NAMES.index("V"))[0]]
gray = picture[..., 0]
edges = explain.KERNELS["vertical edges"]
result = explain.convolve(gray, edges)
row, column = np.unravel_index(np.abs(result).argmax(), result.shape)
window = plots.one_window(picture, edges, result, row=row, column=column)
run.add_figure("one_window", window, "One pixel of a convolution: a patch of the picture times the kernel, summed.")

# %%
results = {name: (kernel, explain.convolve(gray, kernel)) for name, kernel in explain.KERNELS.items()}
by_hand = plots.convolution_steps(picture, results, columns=3)
run.add_figure("kernels_by_hand", by_hand, "The results of some well-known kernels.")

# %% [markdown]
# ### Stride, padding and pooling
# With n pixels, a kernel of size k and a *stride* of s, there are ⌊(n - k) / s⌋ + 1 positions of the kernel: the result
# is smaller than the picture. *Padding* adds zeros around the picture, so that the size stays the same. *Pooling* keeps
# the largest of each 2×2 pixels: a quarter of the numbers remains, and a pattern that moves by one pixel gives nearly
# the same result.

# %%
sizes = {
    "stride 1, no padding": (edges, explain.convolve(gray, edges)),
    "stride 1, same padding": (edges, explain.convolve(gray, edges, padding="same")),
    "stride 2, same padding": (edges, explain.convolve(gray, edges, stride=2, padding="same")),
    "then 2×2 max pooling": ("the largest of 2 × 2", explain.pool(explain.convolve(gray, edges, padding="same"))),
}
for name, (_, result) in sizes.items():
    print(f"{name}: {result.shape[0]} × {result.shape[1]} pixels")
stride_and_padding = plots.convolution_steps(picture, sizes, columns=3)
run.add_figure("sizes", stride_and_padding, "The effect of stride, padding and pooling on the size.")

# %% [markdown]
# ## 3. Model
# Three blocks of convolution, batch normalization, ReLU and pooling: 28 → 14 → 7 → 3 pixels, with 25, 50 and 75 kernels
# that the network learns. A kernel of the second block covers 3×3 pixels of all 25 maps of the first block, so it has
# 3 × 3 × 25 weights and a bias. *Batch normalization* gives each map mean 0 and standard deviation 1, which allows a
# larger learning rate. *Dropout* sets a random part of the numbers to 0 in each step, so that the network cannot rely
# on single ones.

# %%
model = cnn_classifier(input_shape=asl.INPUT_SHAPE, num_classes=len(asl.CLASS_NAMES), seed=options.seed)
dense = dense_classifier(
    input_shape=asl.INPUT_SHAPE, hidden=(512, 512), num_classes=len(asl.CLASS_NAMES), seed=options.seed
)
if not options.quiet:
    print(format_parameter_table(parameter_table(model)))
print(f"{model.count_params():,} parameters; the dense network of lesson 05 has {dense.count_params():,}")

# %% [markdown]
# ## 4. Train
# The learning rate decreases along half a cosine. The dense network of lesson 05 is trained in the same way, for
# comparison.


# %%
def train(network, **settings):
    """Trains one network; both networks get the same batches and learning rates."""
    steps = options.epochs * -(-len(x_train) // options.batch_size)
    return fit(
        network,
        (x_train, y_train),
        (x_valid, y_valid),
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.001, decay_steps=steps)),
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        **settings,
    )


history = train(model, run=run, log_steps=options.log_steps, progress=not options.quiet)
with run.inside("dense") as beside:
    dense_history = train(dense, run=beside, progress=False)

# %%
run.add_figure("curves", plots.training_curves(history), "Loss and accuracy after each epoch.")

# %% [markdown]
# ## 5. Evaluate

# %%
logits = predict_logits(model, x_valid)
accuracy = evaluation.accuracy(logits, y_valid)
dense_accuracy = evaluation.accuracy(predict_logits(dense, x_valid), y_valid)
print(f"held-out accuracy: dense {dense_accuracy:.2%}, convolutional {accuracy:.2%}")

# %%
both = {"dense": dense_history, "convolutional": history}
compared = plots.loss_curves(
    {name: (columns["epoch"], columns["loss"]) for name, columns in both.items()},
    validation={name: (columns["epoch"], columns["val_loss"]) for name, columns in both.items()},
    loss_label="cross entropy (nats)",
)
run.add_figure("dense_and_convolutional", compared, "The dense and the convolutional network; validation is dashed.")

# %% [markdown]
# ### What it has learned
# The kernels of the first block have learned to find edges, corners and spots. The feature maps show where they find
# them in one picture. The maps of later blocks are smaller and respond to larger patterns.

# %%
learned = plots.kernel_grid(explain.kernels(model, "block1_conv"))
run.add_figure("kernels", learned, "The learned kernels of the first block.")

# %%
for block in (1, 2, 3):
    maps = explain.feature_maps(model, picture, f"block{block}_relu")
    grid = plots.feature_map_grid(maps, image=picture, count=24)
    run.add_figure(f"maps_of_block_{block}", grid, f"Feature maps of block {block} for one picture.")

# %% [markdown]
# ### Where it looks
# Grad-CAM shows which places of the last feature maps support the prediction, as a heat map over the picture. First
# come correct predictions, then mistakes, with one picture for each series of near-copies.

# %%
predictions = logits.argmax(axis=-1)
first_of_series = np.unique(asl.near_copies(x_valid, y_valid), return_index=True)[1]
right = first_of_series[predictions[first_of_series] == y_valid[first_of_series]]
wrong = first_of_series[evaluation.most_wrong(logits[first_of_series], y_valid[first_of_series], count=6)]
chosen = [*right[:: max(1, len(right) // 6)][:6], *wrong]
heat = plots.heat_on_picture(
    x_valid[chosen],
    np.stack([explain.grad_cam(model, x_valid[index]) for index in chosen]),
    [f"{asl.CLASS_NAMES[y_valid[index]]}, predicted {asl.CLASS_NAMES[predictions[index]]}" for index in chosen],
)
run.add_figure("where_it_looks", heat, "The places that support the prediction: correct predictions, then mistakes.")

# %%
matrix = evaluation.confusion_matrix(y_valid, predictions, num_classes=len(asl.CLASS_NAMES))
confusion = plots.confusion_matrix(matrix, asl.CLASS_NAMES)
run.add_figure("confusion_matrix", confusion, "Each letter, and what it was classified as.")

# %%
print(f"accuracy {accuracy:.2%} on {len(x_valid):,} held-out hand signs")
run.finish(
    model,
    history,
    title="Hand signs with a convolutional network",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, y_valid),
        "per_class": evaluation.per_class(matrix, asl.CLASS_NAMES),
    },
    samples=len(x_train),
    card=asl.card("Hand signs, with a convolutional network", source),
)

# %% [markdown]
# ## 6. What to try next
# - `cnn_classifier(filters=(75, 50, 25), pool_padding="same")`: the network of the older edition of the course. It has
#   fewer parameters; is it less accurate?
# - `batch_normalization=False`. How much slower does it learn? What if the learning rate is ten times smaller?
# - `dropout=0.0, dense_dropout=0.0`. How large is the gap between training and validation now?
# - `kernel_size=5`. How many parameters does a kernel have then, and do they help?
# - Shift a picture by five pixels with `numpy.roll`, and classify it with both networks.
# - Lesson 07 shows the network different pictures in each epoch.
