"""Fundamentals of Deep Learning as tested software: one seed, one curve, on every backend of Keras.

The rooms, in the order in which data flows:

| room | what is in it |
|---|---|
| ``_backend/`` | the only room that names a framework; ``select`` chooses one before Keras is imported |
| ``lesson`` | the options that all lessons share, and the one line that explains a mistake |
| ``randomness`` | one generator for initial weights, shuffling, dropout and augmentation |
| ``foreign_text`` | text that others wrote, made safe to print and to put into a table |
| ``limits`` | limits that a process sets on itself before it opens what may come from anybody |
| ``arguments`` | numbers, ranges and switches, checked before anything is computed |
| ``files`` | files that are either whole or as they were before |
| ``weight_files`` | files of weights that may come from anybody |
| ``progress`` | a bar for a person who waits |
| ``update_rules`` | the optimizers as a table |
| ``surfaces`` | losses of two parameters to go down on |
| ``preprocessing/`` | the same steps in training and in serving |
| ``cards`` | what a saved model says about itself |
| ``datasets/`` | one file per data set: where it comes from, and ``load_data()`` |
| ``augmentation/`` | random changes of the training pictures, in batches, on the device |
| ``models/`` | one family of architectures per file; each builder returns a ``keras.Model`` |
| ``pretrained/`` | models that others have trained, and what is known about them |
| ``allow_list`` | the layers and operations that a model file may be made of |
| ``training/`` | the loops |
| ``evaluation`` | metrics and the confusion matrix |
| ``explain`` | convolutional nets from the inside: kernels, feature maps, Grad-CAM |
| ``plots/`` | every picture that a lesson shows |
| ``documents`` | HTML that holds all it shows |
| ``report`` | the page that a run leaves behind |
| ``pages`` | pages for the browser, in one file |
| ``play/`` | a page on which to play with gradient descent |
| ``deployment/`` | a picture in, a class name out |
| ``assessment/`` | the grader |
| ``cli`` | the command ``keras-course`` |

A room imports only from rooms above it. Importing the package chooses an installed backend (KERAS_BACKEND,
keras.json, then what is installed) and imports nothing heavy.
"""

from contextlib import suppress as _suppress

from keras_course._backend import select as _select
from keras_course.errors import CourseError as _CourseError

__version__ = "0.1.0"

# Without a backend the import still succeeds: `keras-course doctor` must be able to say what to install.
with _suppress(_CourseError):
    _select.use()
