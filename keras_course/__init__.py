"""Fundamentals of Deep Learning as tested software: one seed, one curve, on every backend of Keras.

The rooms, in the order in which data flows; ``tests/test_rooms.py`` has the same order and checks it:

| room | what is in it |
|---|---|
| ``errors`` | the errors that a person can mend, each explained in one line |
| ``foreign_text`` | text from outside, made safe to print and to put into a table |
| ``limits`` | limits that a process sets on itself before it opens a file from outside |
| ``arguments`` | checks of numbers, ranges and switches |
| ``files`` | files that are replaced as a whole or not at all |
| ``weight_files`` | weight files from outside |
| ``progress`` | a progress bar |
| ``_backend/`` | the only room that names a framework; ``select`` chooses one before Keras is imported |
| ``randomness/`` | one generator for initial weights, shuffling, dropout and augmentation |
| ``update_rules`` | the optimizers as a table |
| ``surfaces`` | losses of two parameters |
| ``preprocessing/`` | pictures to pixels, texts to tokens, the same in training and in serving |
| ``cards`` | what a saved model says about itself |
| ``datasets/`` | one file per data set: where it comes from, and ``load_data()`` |
| ``augmentation/`` | random changes of training pictures, in batches, on the device |
| ``models/`` | one family of architectures per file; each builder returns a ``keras.Model`` |
| ``pretrained/`` | pre-trained models and their records |
| ``allow_list`` | the layers and operations that a model file may contain |
| ``evaluation`` | metrics and the confusion matrix |
| ``training/`` | the training loops and the run directory |
| ``generation/`` | samplers: words from a language model |
| ``explain`` | kernels, feature maps, Grad-CAM |
| ``explain_text`` | attention maps, integrated gradients over tokens |
| ``plots/`` | the figures of the lessons |
| ``documents`` | HTML pages in one file |
| ``report`` | the report of a run |
| ``lesson/`` | the options of all lessons, and the folder of a lesson's run |
| ``pages`` | interactive pages in one file |
| ``play/`` | the page on gradient descent |
| ``deployment/`` | predict, export, serve |
| ``assessment/`` | the grader |
| ``doctor`` | what this machine has: backends, devices, data, protection |
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
