# %% [markdown]
# # 06 · Hand signs with a convolutional network
# A convolution looks for one pattern everywhere in a picture. A network of convolutions reads hand signs that a dense
# network fails at, with fewer parameters.
#
# - needs: one backend
# - data: hand signs, 24 letters of 28×28 pixels (drawn ones where there are no real ones)
# - time: two minutes on two cores
#
# Run it with `keras-course run 06_asl_cnn`, with `python examples/06_asl_cnn.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import parse_options

LESSON = "06_asl_cnn"
options = parse_options("Reads hand signs with a convolutional network.", epochs=15, batch_size=64)

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import evaluation, explain, plots, report
from keras_course.datasets import asl
from keras_course.models import cnn_classifier, dense_classifier, format_parameter_table, parameter_table
from keras_course.training import fit, open_run, predict_logits

# %% [markdown]
# ## 1. Data

# %%
source = asl.locate(options.data)
(x_train, y_train), (x_valid, y_valid) = asl.load_data(source)
print(f"{asl.describe(source)}: {len(x_train):,} pictures to train on, {len(x_valid):,} to validate with")

# %% [markdown]
# ## 2. Look at it
# ### A kernel
# A *kernel* is a small table of numbers. It is laid over a patch of the picture, each pixel is multiplied by the number
# that lies on it, and the products are added up: that is one pixel of the result. Then it moves on. The numbers decide
# what it answers to. Those of the first column are negative here and those of the last positive: where the picture
# grows brighter from left to right, the sum is large.

# %%
run = open_run(LESSON, options)
picture = x_train[np.flatnonzero(y_train == asl.CLASS_NAMES.index("V"))[0]]
edges = explain.KERNELS["vertical edges"]
answer = explain.convolve(picture[..., 0], edges)
row, column = np.unravel_index(np.abs(answer).argmax(), answer.shape)
plots.save(plots.one_window(picture, edges, answer, row=row, column=column), run.figures / "one_window.png")

# %%
answers = {name: (kernel, explain.convolve(picture[..., 0], kernel)) for name, kernel in explain.KERNELS.items()}
plots.save(plots.convolution_steps(picture, answers, columns=3), run.figures / "kernels_by_hand.png")

# %% [markdown]
# ### Stride, padding and pooling
# With n pixels, a kernel of k and a *stride* of s, there are ⌊(n - k) / s⌋ + 1 places for the kernel: the result is
# smaller than the picture. *Padding* puts zeros around it, so that it stays as large. *Pooling* keeps the largest of
# each 2×2 pixels: a quarter of the numbers, and a pattern that is moved by a pixel gives nearly the same.

# %%
grey = picture[..., 0]
sizes = {
    "stride 1, no padding": (edges, explain.convolve(grey, edges)),
    "stride 1, same padding": (edges, explain.convolve(grey, edges, padding="same")),
    "stride 2, same padding": (edges, explain.convolve(grey, edges, stride=2, padding="same")),
    "2×2 max pooling after it": ("the largest of 2 × 2", explain.pool(explain.convolve(grey, edges, padding="same"))),
}
for name, (_, result) in sizes.items():
    print(f"{name}: {result.shape[0]} × {result.shape[1]} pixels")
plots.save(plots.convolution_steps(picture, sizes, columns=3), run.figures / "sizes.png")

# %% [markdown]
# ## 3. Model
# Three blocks of convolution, normalisation, ReLU and pooling: 28 → 14 → 7 → 3 pixels, with 25, 50 and 75 kernels that
# the network learns by itself. A kernel of the second block looks at 3×3 pixels of all 25 maps of the first, so that it
# has 3 × 3 × 25 numbers and a bias. *Batch normalisation* keeps the numbers of each map around 0 with a spread of 1,
# which allows larger steps; *dropout* leaves out a random part of them in each step, so that the network cannot rely on
# any single one.

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
# The step size falls along half a cosine. The dense network of lesson 05 is trained in the same way, to compare.


# %%
def train(network, **settings):
    """Trains one network; both get the same batches and the same step sizes."""
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

# %% [markdown]
# ## 5. Evaluate

# %%
logits, dense_logits = predict_logits(model, x_valid), predict_logits(dense, x_valid)
accuracies = {name: evaluation.accuracy(found, y_valid) for name, found in (("dense", dense_logits), ("cnn", logits))}
print(f"new hand signs that are read: dense {accuracies['dense']:.2%}, convolutional {accuracies['cnn']:.2%}")
plots.save(plots.training_curves(history), run.figures / "curves.png")

# %%
both = {"dense": dense_history, "convolutional": history}
plots.save(
    plots.loss_curves(
        {name: (columns["epoch"], columns["loss"]) for name, columns in both.items()},
        validation={name: (columns["epoch"], columns["val_loss"]) for name, columns in both.items()},
        loss_label="cross entropy (nats)",
    ),
    run.figures / "dense_and_convolutional.png",
)

# %% [markdown]
# ### What it has learned
# The kernels of the first block look for edges, corners and spots, which nobody told them to. The maps show where in
# one picture they find what they look for; deeper in, maps are smaller and answer to more.

# %%
plots.save(plots.kernel_grid(explain.kernels(model, "block1_conv")), run.figures / "kernels.png")

# %%
for block in (1, 2, 3):
    maps = explain.feature_maps(model, picture, f"block{block}_relu")
    plots.save(plots.feature_map_grid(maps, image=picture, count=24), run.figures / f"maps_of_block_{block}.png")

# %% [markdown]
# ### Where it looks
# Grad-CAM asks which places of the last maps speak for the answer, and lays them over the picture. First letters that
# are read rightly, then mistakes: there it says what the network has fallen for. One picture stands for each series.

# %%
predictions = logits.argmax(axis=-1)
first_of_series = np.unique(asl.near_copies(x_valid, y_valid), return_index=True)[1]
right = first_of_series[predictions[first_of_series] == y_valid[first_of_series]]
wrong = first_of_series[evaluation.most_wrong(logits[first_of_series], y_valid[first_of_series], count=6)]
chosen = [*right[:: max(1, len(right) // 6)][:6], *wrong]
plots.save(
    plots.heat_on_picture(
        x_valid[chosen],
        np.stack([explain.grad_cam(model, x_valid[index]) for index in chosen]),
        [f"{asl.CLASS_NAMES[y_valid[index]]}, read as {asl.CLASS_NAMES[predictions[index]]}" for index in chosen],
    ),
    run.figures / "where_it_looks.png",
)

# %%
matrix = evaluation.confusion_matrix(y_valid, predictions, num_classes=len(asl.CLASS_NAMES))
plots.save(plots.confusion_matrix(matrix, asl.CLASS_NAMES), run.figures / "confusion_matrix.png")

# %%
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=accuracies["cnn"],
    loss=evaluation.cross_entropy(logits, y_valid),
    samples=len(x_train),
    card=asl.card("Hand signs, with a convolutional network", source),
    per_class=evaluation.per_class(matrix, asl.CLASS_NAMES),
)
page = report.write_report(
    run.path,
    title="Hand signs with a convolutional network",
    captions={
        "one_window": "One pixel of a convolution: a patch of the picture, times the kernel, added up.",
        "kernels_by_hand": "What some kernels make of a picture.",
        "sizes": "What stride, padding and pooling do to the size.",
        "curves": "Loss and accuracy, an epoch at a time.",
        "dense_and_convolutional": "The dense network and the convolutional one; validation is dashed.",
        "kernels": "The kernels of the first block, as they were learned.",
        "maps_of_block_1": "What the first block finds in one picture.",
        "maps_of_block_2": "What the second block finds there.",
        "maps_of_block_3": "What the third block finds there.",
        "where_it_looks": "Which places speak for the answer: letters that were read rightly, and mistakes.",
        "confusion_matrix": "Which letter is taken for which.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {len(x_valid):,} hand signs; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `cnn_classifier(filters=(75, 50, 25), pool_padding="same")`: the older edition of the course's net. Fewer
#   parameters; is it worse?
# - `batch_normalization=False`. How much slower does it learn? What if the step size is ten times as small?
# - `dropout=0.0, dense_dropout=0.0`. How large is the gap between training and validation now?
# - `kernel_size=5`. How many parameters does a kernel have then, and do they help?
# - Move the hand in a picture by five pixels with `numpy.roll`, and read it with both networks.
# - Lesson 07 shows the network other pictures in each epoch.
