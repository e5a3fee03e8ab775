"""All figures of the lessons.

Each function takes NumPy arrays and returns a ``matplotlib.figure.Figure`` that is made without pyplot: there is no
current figure, no window and nothing to close. ``save`` writes it as PNG; a notebook shows it where it is the last
value of a cell.

| file | what it draws |
|---|---|
| ``answers`` | photos, the input of the model, and its predictions |
| ``pictures`` | samples, mistakes, confusion matrix |
| ``history`` | one training: loss and accuracy by epoch, loss by batch |
| ``families`` | several trainings side by side, as a question and with its answer |
| ``comparison`` | several methods: their quality and their cost |
| ``functions`` | activations and their slopes, other curves over one axis |
| ``fits`` | models on their training points; their error by the size of the model |
| ``convolutions`` | kernels, feature maps, convolutions step by step, heat maps of Grad-CAM |
| ``words`` | vectors of words, next words, attention, similarity, contributions of tokens, perplexities |
| ``landscape`` | the loss over two parameters, as a surface and as contours, with the paths of descents |
| ``animation`` | a descent as an animation |
| ``style`` | the common style, and saving |

To add a plot: decorate it with ``in_course_style``, start from ``new_figure``, take the colors from ``style``, check
the arguments with ``checks``, and list the function here.
"""

from keras_course.plots.animation import Animation, descent_animation, save_animation
from keras_course.plots.answers import answers
from keras_course.plots.comparison import comparison
from keras_course.plots.convolutions import (
    convolution_steps,
    feature_map_grid,
    heat_on_picture,
    kernel_grid,
    one_window,
)
from keras_course.plots.families import loss_curves
from keras_course.plots.fits import line_fit, points_with_probability, regression_fits, size_against_error
from keras_course.plots.functions import activations, curves
from keras_course.plots.history import step_curve, training_curves
from keras_course.plots.landscape import loss_contours, loss_surface
from keras_course.plots.pictures import confusion_matrix, most_wrong, sample_pictures
from keras_course.plots.style import COLORS, DOTS_PER_INCH, save
from keras_course.plots.words import (
    attention_maps,
    embedding_map,
    next_words,
    one_hot_and_embedding,
    perplexities,
    similarity_matrix,
    token_contributions,
    word_pieces,
)

__all__ = [
    "COLORS",
    "DOTS_PER_INCH",
    "Animation",
    "activations",
    "answers",
    "attention_maps",
    "comparison",
    "confusion_matrix",
    "convolution_steps",
    "curves",
    "descent_animation",
    "embedding_map",
    "feature_map_grid",
    "heat_on_picture",
    "kernel_grid",
    "line_fit",
    "loss_contours",
    "loss_curves",
    "loss_surface",
    "most_wrong",
    "next_words",
    "one_hot_and_embedding",
    "one_window",
    "perplexities",
    "points_with_probability",
    "regression_fits",
    "sample_pictures",
    "save",
    "save_animation",
    "similarity_matrix",
    "size_against_error",
    "step_curve",
    "token_contributions",
    "training_curves",
    "word_pieces",
]
