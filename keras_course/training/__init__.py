"""The training loops, and the folder that a run leaves behind."""

from keras_course.training.fit import evaluate, fit, predict_logits
from keras_course.training.run_directory import RunDirectory, open_run

__all__ = ["RunDirectory", "evaluate", "fit", "open_run", "predict_logits"]
