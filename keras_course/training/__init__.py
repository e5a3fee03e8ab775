"""The training loops, and the folder that a run writes."""

from keras_course.training.compare import compare
from keras_course.training.descent import Descent
from keras_course.training.discriminant import solve_head
from keras_course.training.features import extract_features
from keras_course.training.fine_tuning import WeightedCrossEntropy, fine_tune, train_head
from keras_course.training.fit import evaluate, fit, predict_logits
from keras_course.training.gradient_descent import finite_differences, gradient_descent, loss_surface, value_and_grad
from keras_course.training.run_directory import RunDirectory, find_run

__all__ = [
    "Descent",
    "RunDirectory",
    "WeightedCrossEntropy",
    "compare",
    "evaluate",
    "extract_features",
    "find_run",
    "fine_tune",
    "finite_differences",
    "fit",
    "gradient_descent",
    "loss_surface",
    "predict_logits",
    "solve_head",
    "train_head",
    "value_and_grad",
]
