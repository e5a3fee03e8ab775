"""Hands that sign the 24 static letters of the American Sign Language alphabet, drawn instead of photographed.

Letters and hands are drawn by the course's generator from a seed: the same pictures on every backend, as many as are
wanted, and without a network. A hand is a skeleton in centimetres, with three joints a finger and a bend for each of
them; its bones are covered by rounded, tapering capsules that melt into each other, turned towards the viewer and lit
from one side. What a photographer could not hold still is drawn anew for each picture: the bends, the view, the place
and size in the picture, the proportions of the hand, the skin, the sleeve, the light, what stands behind it, the focus
and the noise of the camera.

J and Z are missing because they are movements. The letters are shown by a right hand, and mostly with the palm towards
the camera, so that the thumb is on the right.

The poses were set by hand and most of them then changed, at random and a little at a time, towards what makes the
picture most like one of 240 photos of the training part of Sign Language MNIST (see ``asl.py``). Those in which the
letter can be read were kept, five or six a letter. That part is therefore not quite new to a network that has learned
from drawn hands alone; the validation part had no part in it.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.preprocessing import PictureFormat

CLASS_NAMES: Final = tuple("ABCDEFGHIKLMNOPQRSTUVWXY")
"""The letters, in the order of their labels."""
PICTURES: Final = PictureFormat(height=28, width=28, channels=1, resize="extend", full_contrast=True)
"""How a photo of a hand becomes a picture as ``load_data`` gives them: grey, all of it, from black to white."""
INPUT_SHAPE: Final = PICTURES.shape
"""The shape of one picture of ``load_data``."""

Pictures = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]
Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
Direction = tuple[float, float, float]
Bends = tuple[float, float, float, float]


class _Pose(NamedTuple):
    """One way to sign a letter."""

    bends: tuple[Bends, Bends, Bends, Bends]
    """Of index, middle, ring and little finger: how far each joint is bent, from the knuckle outwards, and how far the
    finger leans towards the thumb, in degrees."""
    thumb: tuple[Direction, Direction, Direction]
    """Where its bones point to, as seen by the hand: towards the thumb's side, along the fingers, out of the palm."""
    fingers_to: Direction
    """Where the palm leads to, in the picture: right, up, towards the viewer; so are the next two."""
    palm_to: Direction
    arm_to: Direction
    place: Direction
    """How large the hand is, and how far right and up of the middle, in hundredths of the picture."""


# fmt: off
_POSES: Final[dict[str, tuple[_Pose, ...]]] = {
    "A": (
        _Pose(((77, 118, 70, -3), (88, 118, 64, -2), (90, 87, 39, 12), (58, 99, 51, 14)),
              ((70, 71, -7), (20, 98, 2), (-55, 84, 3)), (10, 92, -37), (-51, 36, 78), (-54, -73, -42), (77, 8, 0)),
        _Pose(((77, 107, 61, -5), (76, 95, 11, 0), (85, 93, 48, -3), (90, 98, 48, -1)),
              ((57, 78, 25), (2, 99, -11), (-25, 95, 19)), (-5, 79, -61), (-8, 60, 80), (-65, -75, -6), (89, 8, 2)),
        _Pose(((87, 118, 70, -2), (85, 118, 70, 5), (65, 107, 48, 8), (42, 118, 53, 11)),
              ((56, 66, -50), (-17, 98, 6), (-74, 64, -19)), (-19, 96, -19), (-53, 6, 84), (-28, -91, -32), (73, 9, 5)),
        _Pose(((76, 118, 70, -4), (83, 118, 45, 0), (89, 95, 59, 2), (86, 97, 55, 6)),
              ((68, 73, 11), (23, 85, 47), (-3, 96, 29)), (12, 85, -51), (-5, 51, 86), (-51, -82, -25), (82, 8, 2)),
        _Pose(((75, 118, 70, 1), (89, 118, 48, 0), (99, 92, 58, 3), (97, 91, 70, 1)),
              ((64, 68, 36), (31, 90, 29), (-43, 84, 32)), (16, 93, -33), (-4, 34, 94), (-40, -92, 3), (81, 7, -1)),
    ),
    "B": (
        _Pose(((18, 21, 6, 5), (-2, 15, 8, 1), (-1, 25, 3, 0), (-2, -2, 7, -1)),
              ((35, 93, 1), (-69, 68, 24), (-91, 41, 9)), (7, 94, -34), (-29, 35, 89), (18, -97, -19), (85, 7, 0)),
        _Pose(((9, 2, 17, -1), (5, 3, 5, 3), (27, 13, 10, 2), (35, 11, 3, 4)),
              ((61, 78, -14), (-22, 94, 25), (-81, 53, 23)), (-3, 100, -5), (-6, 5, 100), (56, 1, -83), (87, 3, -2)),
        _Pose(((8, 13, -1, 5), (0, 15, 12, 5), (8, 9, -1, -3), (-1, 3, 9, -1)),
              ((39, 92, -5), (-44, 89, 11), (-95, 32, 3)), (10, 98, -19), (-22, 21, 95), (1, -96, -26), (85, 6, 1)),
        _Pose(((13, 7, 10, 3), (-6, 8, 4, 0), (-10, 1, 2, 5), (3, -2, -2, 1)),
              ((54, 84, -9), (-34, 93, 13), (-84, 50, 22)), (7, 100, 4), (-24, -2, 97), (-17, -97, -17), (88, 8, 1)),
        _Pose(((9, 18, 5, 1), (24, -2, 2, 2), (27, -2, 6, 4), (0, 19, 4, -2)),
              ((41, 91, 8), (-65, 68, 34), (-100, 9, 4)), (13, 97, -21), (-34, 24, 91), (-61, -56, -56), (88, 11, 1)),
    ),
    "C": (
        _Pose(((25, 38, 36, -2), (24, 36, 36, -3), (16, 26, 37, -3), (4, 21, 31, -3)),
              ((39, 46, 80), (-11, 51, 85), (-5, 67, 74)), (17, 99, -3), (97, -16, 19), (-60, -80, 2), (87, 11, -1)),
        _Pose(((30, 43, 43, 5), (47, 38, 35, -1), (36, 36, 34, 1), (24, 30, 36, -6)),
              ((38, 50, 78), (-11, 54, 83), (-28, 65, 70)), (-15, 99, -5), (94, 16, 30), (-70, -71, -4), (81, 12, 1)),
        _Pose(((33, 51, 19, 7), (59, 20, 40, 2), (58, 24, 37, -4), (45, 31, 35, -2)),
              ((58, 49, 65), (1, 75, 66), (30, 78, 54)), (4, 100, 6), (54, -7, 84), (-2, -98, -18), (87, 1, -6)),
        _Pose(((19, 37, 36, -2), (22, 33, 31, -1), (17, 25, 42, -2), (18, 7, 34, -2)),
              ((43, 34, 83), (17, 34, 93), (-8, 59, 81)), (4, 99, -14), (91, 2, 42), (-75, -63, 19), (85, 12, 0)),
        _Pose(((26, 50, 21, 7), (51, 40, 35, 0), (55, 72, 32, 0), (43, 19, 34, -3)),
              ((55, 72, 41), (9, 81, 58), (11, 74, 66)), (4, 98, 22), (71, -18, 68), (-7, -100, -3), (86, 9, -8)),
    ),
    "D": (
        _Pose(((24, 13, 0, -4), (72, 77, 26, 0), (77, 76, 49, -5), (82, 96, 39, 3)),
              ((40, 88, 26), (-24, 83, 50), (-52, 84, 14)), (-4, 95, -31), (-6, 30, 95), (-38, -89, -27), (83, 5, 6)),
        _Pose(((9, 0, 2, -4), (63, 94, 44, 10), (78, 91, 55, -4), (73, 88, 31, 10)),
              ((61, 72, 34), (-8, 79, 60), (-46, 72, 52)), (-7, 99, -11), (9, 12, 99), (-40, -91, -8), (81, 6, -2)),
        _Pose(((12, -2, 6, -7), (71, 77, 37, 5), (90, 85, 68, -2), (85, 102, 39, 4)),
              ((45, 81, 38), (-7, 67, 74), (-81, 57, 12)), (-7, 67, -74), (-6, 74, 67), (63, -69, -35), (86, 7, 13)),
        _Pose(((41, -2, 0, -10), (74, 99, 29, 4), (93, 94, 57, -1), (105, 105, 43, 1)),
              ((52, 80, 30), (-27, 75, 61), (-41, 91, 10)), (6, 91, -41), (-35, 41, 84), (-36, -91, -19), (81, 0, 1)),
        _Pose(((9, -2, 3, 2), (74, 92, 32, -6), (90, 113, 43, 4), (82, 90, 39, 11)),
              ((65, 75, -12), (-14, 76, 63), (-88, 47, -1)), (-4, 100, -6), (0, 6, 100), (31, -12, -94), (84, 7, 4)),
    ),
    "E": (
        _Pose(((60, 83, 70, -2), (80, 118, 58, -3), (79, 104, 70, 2), (77, 93, 43, 8)),
              ((43, 87, -23), (-60, 67, 43), (-100, 9, 3)), (-7, 91, -41), (-2, 41, 91), (-43, -90, -6), (92, 8, 5)),
        _Pose(((58, 113, 53, 2), (59, 118, 63, 5), (73, 88, 70, 13), (102, 118, 45, 3)),
              ((58, 80, 17), (-50, 70, 51), (-100, -1, 1)), (14, 68, -72), (-27, 73, 63), (-33, -91, -23), (84, 8, 5)),
        _Pose(((76, 118, 70, -7), (79, 117, 67, -2), (70, 118, 49, 1), (60, 90, 50, 4)),
              ((79, 53, -32), (-48, 79, 38), (-97, 24, -6)), (13, 99, -2), (-3, 2, 100), (-65, -58, -50), (84, 10, -2)),
        _Pose(((75, 118, 54, -4), (61, 56, 49, 0), (68, 109, 66, 5), (65, 115, 39, 3)),
              ((55, 80, 21), (-50, 76, 42), (-99, 11, -10)), (15, 89, -44), (-5, 45, 89), (3, -95, -32), (89, 2, -3)),
        _Pose(((45, 110, 50, -2), (45, 112, 50, 0), (46, 112, 50, 3), (48, 110, 50, 7)),
              ((37, 73, 57), (-65, 38, 65), (-99, 10, -10)), (0, 100, 0), (0, 0, 100), (0, -98, -20), (85, 0, 0)),
    ),
    "F": (
        _Pose(((66, 48, 24, 3), (12, 22, 11, 9), (-7, 28, 12, -8), (-12, -2, -2, -16)),
              ((67, 43, 61), (26, 82, 51), (-3, 68, 74)), (-5, 100, -7), (68, 9, 73), (-28, -91, -29), (86, 6, -2)),
        _Pose(((63, 70, 13, 0), (20, 24, 10, 2), (-4, 10, 13, -11), (9, 24, 13, -17)),
              ((69, 55, 47), (-15, 54, 83), (-10, 81, 57)), (-10, 99, -12), (91, 14, 40), (-19, -97, -13),
              (81, 17, -6)),
        _Pose(((62, 37, 19, 5), (1, 20, 14, 5), (-12, 13, 17, -9), (-12, -2, -2, -14)),
              ((74, 32, 59), (36, 60, 72), (-13, 63, 77)), (3, 100, -8), (75, 3, 66), (0, -90, -44), (73, 9, -3)),
        _Pose(((55, 41, 28, 4), (24, 8, 11, 4), (-2, 28, 20, -8), (5, 19, 10, -12)),
              ((38, 65, 66), (26, 57, 78), (-26, 78, 56)), (-9, 92, -38), (80, 30, 53), (15, -99, -7), (87, 9, 0)),
        _Pose(((74, 60, 15, -1), (24, 16, 11, 4), (-12, 29, 15, -9), (8, 34, 17, -18)),
              ((51, 55, 66), (-8, 49, 87), (-23, 55, 80)), (-12, 98, -18), (91, 18, 37), (-6, -99, 11), (84, 10, -4)),
        _Pose(((57, 116, 37, 6), (7, 14, 15, -1), (10, 5, 0, -4), (-12, 10, 12, -15)),
              ((53, 63, 57), (11, 87, 49), (7, 87, 49)), (-5, 96, -26), (27, 26, 93), (-2, -100, -7), (86, -1, -1)),
    ),
    "G": (
        _Pose(((45, -2, -2, -3), (105, 95, 51, 2), (105, 95, 49, 5), (94, 86, 44, 12)),
              ((33, 33, 89), (40, 86, 33), (15, 73, 67)), (72, 53, 45), (59, -12, -80), (-32, -91, -26), (87, -1, -3)),
        _Pose(((36, 18, -2, -1), (105, 86, 60, -2), (105, 101, 59, 1), (91, 102, 45, 6)),
              ((62, 29, 73), (4, 82, 57), (8, 92, 38)), (81, 41, 43), (56, -28, -78), (-45, -89, -10), (94, -6, -8)),
        _Pose(((41, 23, 0, 0), (88, 79, 59, 0), (97, 98, 54, 4), (96, 98, 42, 6)),
              ((53, 16, 83), (30, 73, 62), (3, 97, 25)), (71, 39, 59), (67, -12, -73), (-23, -89, -40), (96, -4, -13)),
        _Pose(((56, 23, -2, 2), (90, 87, 56, 0), (85, 75, 44, 11), (105, 93, 45, 7)),
              ((50, 19, 84), (19, 86, 47), (9, 92, 37)), (54, 55, 64), (72, 10, -69), (-14, -99, -3), (95, -8, -10)),
        _Pose(((49, -2, 0, -3), (105, 88, 43, 2), (73, 97, 45, 6), (78, 92, 48, 11)),
              ((45, 33, 83), (-5, 88, 47), (12, 84, 53)), (80, 30, 52), (55, -4, -83), (-71, -64, -31), (96, -2, -4)),
        _Pose(((65, 14, 1, 0), (81, 108, 40, 0), (77, 77, 52, 0), (88, 103, 54, 9)),
              ((22, 56, 80), (14, 70, 70), (5, 83, 55)), (51, 66, 55), (77, -8, -63), (-44, -90, -5), (102, -1, -10)),
    ),
    "H": (
        _Pose(((5, 2, 11, -6), (17, 23, 0, -3), (83, 103, 59, 8), (92, 93, 27, 8)),
              ((-14, 60, 79), (-33, 68, 66), (-76, 65, 2)), (87, 31, 39), (44, -12, -89), (-18, -95, 25), (91, -6, -1)),
        _Pose(((12, 19, 4, -1), (9, 27, 8, 0), (60, 95, 48, 10), (68, 107, 47, 9)),
              ((4, 84, 55), (-4, 81, 58), (-55, 83, 1)), (93, 32, 17), (23, -18, -96), (-98, -1, -18), (109, -11, 0)),
        _Pose(((12, 18, 12, -3), (23, 24, 5, -3), (93, 92, 51, 3), (98, 85, 39, 3)),
              ((25, 48, 84), (17, 79, 59), (-2, 100, 3)), (73, 56, 40), (58, -19, -79), (-39, -80, -46), (87, -4, -3)),
        _Pose(((4, 17, 5, -8), (7, 13, 5, -1), (98, 81, 45, 3), (88, 94, 55, 9)),
              ((19, 66, 73), (-35, 77, 54), (-49, 86, 17)), (97, 21, 16), (20, -23, -95), (-54, -82, 18), (73, 8, -3)),
        _Pose(((9, -2, 9, 0), (14, 32, 3, 0), (90, 84, 56, 4), (86, 101, 52, 5)),
              ((19, 71, 68), (-27, 78, 56), (-40, 83, 39)), (70, 63, 33), (50, -10, -86), (-58, -79, 20), (69, 7, 9)),
    ),
    "I": (
        _Pose(((93, 118, 48, -2), (65, 62, 58, -7), (71, 118, 55, 3), (-4, 47, -2, -12)),
              ((70, 72, 3), (33, 81, 49), (-37, 93, -1)), (9, 99, -14), (31, 10, 94), (-42, -90, -4), (94, 2, 5)),
        _Pose(((105, 101, 68, 14), (57, 86, 56, -9), (57, 112, 56, 0), (-12, 31, -1, -10)),
              ((43, 87, -22), (18, 95, 25), (-19, 83, 53)), (34, 93, -12), (14, 8, 99), (-51, -61, -61), (93, 5, 8)),
        _Pose(((67, 103, 56, -2), (76, 118, 63, 0), (67, 98, 57, -1), (-9, 28, 15, -4)),
              ((70, 71, 11), (28, 93, 24), (-27, 88, 39)), (-13, 99, -10), (27, 13, 95), (-28, -95, -17), (93, -4, -3)),
        _Pose(((105, 59, 50, 1), (73, 77, 58, -5), (76, 111, 51, 1), (7, 34, 14, -13)),
              ((42, 75, 51), (25, 95, 20), (-8, 90, 44)), (-18, 91, -38), (1, 39, 92), (-43, -81, -39), (74, 9, 6)),
        _Pose(((105, 80, 40, 3), (75, 104, 56, -5), (60, 99, 26, 1), (-3, 6, 6, -7)),
              ((45, 78, 43), (45, 71, 54), (-20, 58, 79)), (14, 98, -16), (-12, 17, 98), (-81, -57, -11), (83, 11, 1)),
    ),
    "K": (
        _Pose(((4, 20, 0, 10), (58, 29, -2, -4), (64, 88, 41, -2), (100, 99, 51, 6)),
              ((30, 76, 58), (-28, 81, 51), (-39, 86, 32)), (-3, 97, -25), (-45, 21, 87), (-19, -96, -20), (77, -8, 3)),
        _Pose(((-5, -2, 5, -2), (71, 16, 15, 10), (75, 103, 54, 9), (85, 101, 42, 4)),
              ((40, 74, 55), (-4, 83, 56), (20, 84, 51)), (2, 100, 5), (-9, -5, 100), (37, -90, -21), (82, 12, 2)),
        _Pose(((18, 2, 4, -1), (80, 25, 34, 7), (59, 118, 69, 5), (98, 101, 52, 11)),
              ((-9, 81, 58), (-4, 91, 41), (-14, 87, 48)), (-22, 97, -10), (-27, 4, 96), (18, -78, -60), (66, 14, 7)),
        _Pose(((23, 1, -2, -4), (23, -2, 3, 6), (85, 91, 21, 6), (87, 96, 68, 4)),
              ((-26, 86, 43), (-8, 81, 59), (2, 60, 80)), (-11, 99, -10), (19, 12, 98), (1, -95, -31), (76, 11, -3)),
        _Pose(((2, 3, 3, 2), (45, 8, 6, 2), (80, 95, 50, 3), (84, 95, 50, 6)),
              ((20, 74, 64), (-10, 84, 54), (-10, 87, 48)), (10, 100, 0), (-63, 6, 78), (0, -98, -20), (85, 0, 0)),
    ),
    "L": (
        _Pose(((10, -2, 16, 3), (56, 118, 58, 2), (43, 102, 39, 4), (95, 104, 59, 5)),
              ((95, 31, -6), (91, 38, 14), (97, 18, -17)), (0, 100, 8), (-4, -8, 100), (-63, -78, -2), (75, 6, 6)),
        _Pose(((-10, -2, 15, 7), (82, 105, 51, 2), (80, 118, 55, 8), (77, 91, 61, 11)),
              ((79, 61, -10), (94, 34, 7), (94, 31, -13)), (16, 99, -5), (-1, 5, 100), (-66, -72, -19), (79, -2, -2)),
        _Pose(((8, -2, 18, 0), (102, 92, 34, -3), (83, 118, 67, 4), (93, 118, 49, 6)),
              ((83, 55, 11), (68, 69, 24), (91, 41, -6)), (10, 97, -20), (1, 20, 98), (-82, -53, -19), (85, 9, -1)),
        _Pose(((18, -2, 25, 6), (89, 103, 43, -2), (92, 113, 57, 5), (81, 81, 60, 8)),
              ((81, 58, -6), (83, 55, 6), (94, 29, -18)), (19, 98, -2), (-3, 3, 100), (-59, -79, -17), (79, 2, 1)),
        _Pose(((-4, 0, 11, -1), (88, 113, 45, 1), (73, 118, 63, 4), (74, 84, 48, 9)),
              ((75, 51, 43), (85, 45, 27), (95, 27, -13)), (-36, 93, 0), (-1, -1, 100), (-75, -61, -25), (85, 9, -4)),
    ),
    "M": (
        _Pose(((56, 118, 28, 2), (61, 92, 26, -6), (63, 118, 44, 4), (96, 69, 43, 1)),
              ((32, 85, -42), (-74, 67, -6), (-92, 31, 23)), (13, 99, -4), (-19, 6, 98), (-41, -86, -32), (86, 11, -6)),
        _Pose(((50, 106, 44, -2), (57, 93, 43, -7), (65, 62, 31, 10), (93, 114, 54, 4)),
              ((-7, 97, 23), (-24, 96, 11), (-80, 52, 31)), (30, 73, -61), (-14, 67, 73), (-63, -67, -39), (85, 4, -5)),
        _Pose(((47, 70, 26, -2), (59, 103, 38, -7), (60, 110, 58, 3), (92, 76, 40, -3)),
              ((19, 96, -22), (-63, 77, 12), (-86, 51, 5)), (16, 76, -63), (-13, 65, 75), (-12, -99, 0), (82, 4, 0)),
        _Pose(((68, 85, 35, -1), (68, 85, 35, 0), (70, 85, 35, 1), (85, 100, 50, 4)),
              ((32, 79, 53), (-73, 57, 37), (-93, 31, 21)), (5, 100, 0), (0, 0, 100), (0, -98, -20), (85, 0, 0)),
        _Pose(((55, 85, 40, -1), (55, 85, 40, 0), (58, 85, 40, 1), (80, 100, 50, 4)),
              ((32, 79, 53), (-73, 57, 37), (-93, 31, 21)), (10, 99, -5), (-19, 7, 98), (0, -98, -20), (85, 0, 0)),
    ),
    "N": (
        _Pose(((64, 91, 46, -2), (62, 86, 43, 1), (80, 116, 52, 10), (81, 118, 48, 10)),
              ((20, 95, 24), (-19, 98, 0), (-63, 73, 26)), (21, 78, -58), (-16, 62, 77), (-6, -99, -11), (86, 10, 1)),
        _Pose(((58, 64, 51, -1), (65, 78, 47, -1), (73, 107, 42, 5), (72, 111, 48, 6)),
              ((33, 86, -38), (3, 94, 33), (-64, 69, 34)), (34, 80, -50), (-13, 56, 82), (-36, -92, -12), (78, 16, -2)),
        _Pose(((49, 102, 49, 1), (60, 93, 26, -2), (94, 97, 50, -2), (103, 104, 67, 7)),
              ((46, 85, 24), (-28, 89, 36), (-77, 55, 31)), (-2, 95, -31), (-8, 31, 95), (-1, -99, -13), (86, 1, -9)),
        _Pose(((66, 85, 35, -1), (66, 85, 35, 0), (86, 100, 50, 3), (90, 100, 50, 6)),
              ((36, 78, 52), (-48, 80, 37), (-72, 62, 31)), (15, 99, 0), (0, 0, 100), (0, -98, -20), (85, 0, 0)),
        _Pose(((50, 90, 40, -1), (50, 90, 40, 0), (84, 100, 50, 3), (88, 100, 50, 6)),
              ((36, 78, 52), (-48, 80, 37), (-72, 62, 31)), (15, 99, -5), (1, 5, 100), (0, -98, -20), (85, 0, 0)),
    ),
    "O": (
        _Pose(((62, 43, 24, 2), (48, 54, 49, -5), (19, 63, 33, 1), (33, 34, 18, 1)),
              ((14, 48, 87), (2, 56, 83), (-3, 91, 42)), (-33, 93, -14), (78, 35, 51), (-74, -65, -18), (87, 5, -6)),
        _Pose(((47, 81, 41, -7), (73, 61, 44, -2), (60, 68, 24, 1), (21, 50, 54, -2)),
              ((54, 49, 68), (21, 71, 67), (-25, 94, 22)), (13, 99, -2), (94, -12, 31), (-49, -85, -18), (77, 18, -1)),
        _Pose(((45, 68, 40, -4), (51, 61, 44, 1), (31, 39, 44, -1), (18, 44, 25, -5)),
              ((34, 50, 80), (9, 80, 60), (-25, 96, 9)), (11, 99, -5), (93, -8, 36), (-83, -55, -12), (70, 3, -2)),
        _Pose(((43, 57, 46, -4), (47, 56, 39, 1), (23, 59, 33, -2), (8, 35, 33, -3)),
              ((28, 62, 74), (-2, 59, 81), (0, 93, 37)), (-16, 96, -21), (95, 21, 24), (-58, -81, 2), (86, 4, -3)),
        _Pose(((51, 70, 39, -4), (62, 69, 28, -3), (54, 59, 33, 6), (39, 45, 26, -1)),
              ((59, 35, 73), (8, 91, 41), (-1, 87, 49)), (6, 100, -5), (91, -3, 41), (2, -100, -5), (83, 18, -5)),
    ),
    "P": (
        _Pose(((-12, 16, 3, 7), (70, 34, 32, -1), (89, 67, 46, -2), (84, 66, 37, 9)),
              ((-7, 24, 97), (-39, 90, 21), (-12, 89, 44)), (-86, 9, 50), (37, -56, 74), (42, -74, -52), (78, -1, 0)),
        _Pose(((8, 16, 8, 2), (76, 22, 17, 0), (80, 83, 49, -6), (90, 88, 46, 5)),
              ((65, 71, 27), (39, 76, 52), (1, 98, 19)), (-99, 8, 9), (4, -51, 86), (91, 0, -41), (93, 9, -3)),
        _Pose(((-12, -2, 2, 9), (70, 53, 30, -7), (105, 64, 49, -6), (82, 76, 49, 9)),
              ((13, 78, 61), (8, 97, 21), (-24, 88, 41)), (-81, 37, 46), (25, -50, 83), (42, -58, -69), (78, 5, 2)),
        _Pose(((0, 9, -2, 3), (105, 22, 2, -3), (76, 113, 45, -2), (100, 86, 52, 13)),
              ((48, 86, 18), (-20, 83, 53), (-14, 89, 44)), (-92, 29, -26), (-33, -25, 91), (50, -86, -13), (88, 9, 2)),
        _Pose(((-12, -2, 0, 6), (89, 38, 31, -2), (105, 30, 38, 0), (67, 117, 45, 7)),
              ((36, 65, 67), (-10, 99, 6), (-37, 78, 50)), (-68, 51, 53), (61, 0, 79), (28, -88, -39), (77, 9, 2)),
    ),
    "Q": (
        _Pose(((70, 13, 8, 0), (93, 84, 58, 3), (105, 92, 52, 1), (105, 76, 50, -1)),
              ((56, 14, 81), (18, 68, 71), (6, 0, 100)), (-96, -4, 26), (-4, -95, -32), (44, -90, 6), (70, 1, 1)),
        _Pose(((22, 8, 7, 5), (68, 78, 36, 1), (103, 77, 65, 2), (104, 98, 44, 2)),
              ((46, -4, 89), (-13, 29, 95), (-12, -21, 97)), (-94, -31, 15), (30, -95, -10), (62, -76, 19),
              (87, -6, -8)),
        _Pose(((22, 11, -2, 6), (73, 76, 43, 1), (105, 81, 58, 3), (105, 94, 53, 3)),
              ((50, -18, 85), (7, 59, 80), (-23, -29, 93)), (-96, -27, 10), (26, -96, -8), (73, -68, 10), (88, 5, -3)),
        _Pose(((32, 0, 5, 1), (62, 52, 48, 6), (76, 84, 51, -5), (102, 113, 50, 0)),
              ((36, 45, 82), (8, 35, 93), (-34, 19, 92)), (-99, -7, 12), (9, -98, 17), (-13, -98, 15), (74, -3, -10)),
        _Pose(((29, 0, -2, 4), (78, 78, 40, 2), (105, 80, 48, 3), (105, 95, 46, 2)),
              ((53, -19, 83), (17, 20, 97), (-16, 7, 98)), (-95, -27, 13), (27, -96, -3), (73, -66, 18), (87, 4, -4)),
    ),
    "R": (
        _Pose(((-2, 10, 15, -6), (-10, 10, 20, 10), (93, 82, 68, 8), (104, 112, 46, 6)),
              ((22, 93, 29), (-93, -27, -26), (-86, 51, 1)), (6, 71, -71), (-57, 60, 56), (-8, -99, -11), (94, 0, -4)),
        _Pose(((13, 4, 1, -9), (14, 12, 15, 4), (76, 118, 49, 7), (91, 101, 25, 2)),
              ((18, 93, 33), (-29, 82, 49), (-92, 40, 3)), (4, 98, -19), (-21, 19, 96), (19, -88, -43), (91, -9, -4)),
        _Pose(((-8, 8, -1, -8), (13, 13, 27, 8), (83, 80, 63, 9), (87, 101, 43, 5)),
              ((29, 96, 1), (-96, 21, -19), (-78, 59, -21)), (6, 92, -39), (-34, 39, 86), (-44, -82, -36),
              (93, -1, -4)),
        _Pose(((-12, -2, 2, -4), (-6, 22, 7, 12), (81, 87, 70, 6), (89, 111, 40, 2)),
              ((19, 96, 19), (-96, -15, -25), (-92, 39, -1)), (8, 84, -53), (-54, 49, 69), (0, -91, -42), (93, 3, -4)),
        _Pose(((8, -2, -2, -12), (10, 11, 22, 14), (64, 95, 48, 0), (76, 60, 69, 11)),
              ((51, 72, 47), (-57, 65, 49), (-84, 23, 49)), (17, 94, -28), (-92, 26, 30), (-31, -68, -67), (84, 6, 2)),
    ),
    "S": (
        _Pose(((81, 118, 49, -2), (80, 118, 64, -3), (80, 87, 55, -4), (80, 85, 39, 5)),
              ((42, 84, 35), (-18, 90, 39), (-81, 50, 32)), (6, 96, -27), (-2, 27, 96), (-15, -99, -1), (90, 12, -1)),
        _Pose(((65, 118, 57, 10), (79, 98, 66, -6), (97, 112, 60, 1), (105, 110, 41, 8)),
              ((25, 76, 60), (-18, 87, 47), (-84, 54, -6)), (38, 64, -66), (-25, 76, 60), (-9, -97, 22), (83, 1, -3)),
        _Pose(((58, 118, 46, 4), (73, 118, 67, 3), (88, 118, 58, 6), (92, 102, 48, 4)),
              ((32, 86, 40), (-23, 90, 37), (-97, 25, -2)), (21, 77, -60), (-29, 64, 71), (-51, -86, 7), (88, 27, -2)),
        _Pose(((80, 100, 55, 0), (80, 100, 55, 0), (80, 100, 55, 3), (80, 100, 55, 7)),
              ((37, 57, 73), (-51, 56, 66), (-97, 25, 0)), (10, 100, 0), (-10, 1, 100), (0, -98, -20), (85, 0, 0)),
        _Pose(((75, 105, 55, 0), (80, 105, 55, 0), (85, 100, 55, 3), (90, 100, 55, 7)),
              ((41, 62, 67), (-15, 70, 70), (-83, 52, 21)), (15, 98, -10), (11, 8, 99), (0, -98, -20), (85, 0, 0)),
    ),
    "T": (
        _Pose(((104, 7, 6, -5), (91, 112, 50, 1), (90, 111, 53, 2), (86, 118, 56, -1)),
              ((12, 87, 48), (72, 55, 41), (98, 17, -12)), (-39, 31, 87), (92, 12, 38), (-59, -80, 7), (70, 8, 1)),
        _Pose(((58, 12, -2, 6), (102, 107, 52, 0), (105, 86, 54, 0), (103, 91, 48, 4)),
              ((39, 59, 70), (92, 36, 18), (41, 42, 81)), (66, 53, 54), (72, -21, -67), (-46, -89, 0), (82, 7, -12)),
        _Pose(((94, 23, 8, 1), (93, 97, 54, 1), (91, 109, 55, 2), (73, 93, 52, 0)),
              ((23, 93, 27), (76, 45, 46), (98, 0, -18)), (-33, 55, 77), (94, 26, 21), (-41, -88, 24), (70, 9, 5)),
        _Pose(((65, -2, 9, -2), (90, 109, 52, -1), (80, 110, 48, -5), (83, 81, 54, -3)),
              ((-8, 70, 71), (-30, 95, 5), (-13, 93, 35)), (-6, 99, -8), (86, 9, 50), (-22, -94, -26), (75, 1, -2)),
        _Pose(((83, -2, 0, -1), (64, 71, 51, 0), (63, 96, 55, 1), (105, 112, 36, -2)),
              ((79, 59, 15), (93, 11, 36), (99, 16, -6)), (-2, 9, 100), (100, -3, 2), (-6, -91, -40), (73, -8, 0)),
        _Pose(((56, 11, 1, 6), (100, 97, 41, 1), (105, 95, 54, 1), (98, 105, 45, 7)),
              ((42, 71, 57), (87, 43, 24), (69, 46, 56)), (63, 50, 59), (75, -22, -62), (-40, -92, -3), (83, 7, -8)),
    ),
    "U": (
        _Pose(((14, -2, 0, -3), (17, 17, 7, 4), (80, 118, 48, 7), (105, 103, 43, 6)),
              ((8, 93, 35), (-58, 57, 58), (-96, 19, 19)), (-4, 96, -29), (-19, 28, 94), (-14, -96, -26), (84, -2, 5)),
        _Pose(((2, 1, 9, -5), (17, 18, -2, 1), (76, 113, 61, 3), (103, 82, 50, -2)),
              ((5, 89, 45), (-51, 56, 66), (-97, 23, -3)), (16, 88, -45), (-26, 48, 84), (-3, -98, -19), (83, 8, 5)),
        _Pose(((6, -2, 15, 0), (4, 15, -2, 3), (76, 109, 50, 8), (74, 99, 45, 14)),
              ((44, 86, 24), (-51, 80, 31), (-48, 88, 2)), (-8, 100, -4), (-1, 4, 100), (26, -91, -32), (92, 9, -2)),
        _Pose(((7, -1, 15, -3), (12, 15, 9, 7), (68, 118, 63, 2), (92, 103, 46, 5)),
              ((-10, 91, 40), (-40, 58, 71), (-96, 17, 21)), (4, 87, -49), (-34, 47, 82), (5, -100, -6), (83, -3, 8)),
        _Pose(((10, 7, 7, -3), (1, 25, -2, -1), (103, 113, 50, 9), (91, 105, 64, 10)),
              ((46, 83, 31), (-53, 73, 44), (-61, 79, 3)), (-2, 99, -12), (0, 12, 99), (-20, -98, -9), (91, -2, -3)),
    ),
    "V": (
        _Pose(((2, -2, -2, 19), (24, 4, 5, -3), (92, 94, 61, 5), (79, 94, 33, 11)),
              ((-40, 50, 77), (-44, 49, 75), (-84, 51, -20)), (1, 92, -40), (-5, 40, 91), (27, -91, -30), (87, 14, 1)),
        _Pose(((-12, 1, 3, 20), (26, -2, 5, -10), (83, 100, 65, 4), (100, 93, 43, 8)),
              ((-14, 63, 76), (-82, 53, 21), (-89, 32, -32)), (-9, 93, -36), (-42, 30, 86), (72, -11, -69),
              (85, 12, -4)),
        _Pose(((-12, -2, -2, 20), (10, -2, -2, -16), (68, 101, 44, 5), (84, 102, 56, 12)),
              ((-3, 78, 62), (-53, 25, 81), (-93, 33, -19)), (8, 99, -9), (-21, 11, 97), (30, -90, -33), (89, -3, 1)),
        _Pose(((42, 16, 9, 16), (12, 5, 2, -2), (88, 106, 51, 5), (85, 86, 45, 11)),
              ((46, 87, 19), (-15, 87, 47), (-96, 27, -6)), (-25, 92, -32), (-8, 31, 95), (-44, -87, -23), (82, 0, 3)),
        _Pose(((-12, -2, 4, 20), (19, 12, 6, -13), (94, 107, 47, 10), (105, 109, 56, 7)),
              ((-34, 73, 60), (-48, 71, 52), (-85, 48, -22)), (12, 91, -39), (-12, 40, 91), (16, -96, -22),
              (89, 11, 2)),
    ),
    "W": (
        _Pose(((-12, 20, 19, 16), (-12, 12, 5, 1), (31, 1, 4, -15), (71, 99, 35, 9)),
              ((3, 80, 60), (-68, 34, 65), (-97, 22, 0)), (-12, 94, -31), (-32, 25, 91), (-4, -86, -51), (76, 13, -1)),
        _Pose(((-12, -2, 15, 17), (3, -2, 1, 0), (12, -2, 2, -15), (79, 93, 35, 3)),
              ((-1, 95, 30), (-57, 81, 14), (-96, 26, -8)), (2, 98, -18), (-18, 18, 97), (-25, -97, 3), (84, 4, 4)),
        _Pose(((-3, -2, -2, 20), (4, 0, 4, 2), (17, 12, 11, -13), (60, 104, 41, 7)),
              ((7, 95, 31), (-67, 61, 42), (-93, 31, 19)), (7, 96, -27), (-2, 27, 96), (-10, -88, -46), (90, 5, -3)),
        _Pose(((5, -2, 0, 11), (4, 23, -2, 0), (7, 12, 8, -14), (105, 84, 32, -1)),
              ((3, 99, 14), (-49, 84, 22), (-85, 52, -3)), (2, 96, -27), (-4, 27, 96), (-15, -98, -12), (83, 3, 6)),
        _Pose(((17, 3, 8, 10), (6, 14, -2, -1), (3, 6, 17, -14), (105, 84, 28, -2)),
              ((2, 98, 19), (-31, 87, 38), (-96, 28, -11)), (3, 93, -36), (-9, 36, 93), (-10, -99, -7), (86, 8, 2)),
    ),
    "X": (
        _Pose(((4, 63, 51, 0), (77, 110, 62, 2), (82, 118, 61, 5), (85, 118, 70, -13)),
              ((67, 52, 54), (-37, 68, 64), (-68, 66, -32)), (-27, 95, 17), (95, 22, 24), (-3, -98, -22), (90, 14, -2)),
        _Pose(((13, 70, 52, 2), (73, 102, 63, -1), (85, 87, 50, 5), (93, 118, 67, -5)),
              ((46, 67, 59), (-36, 85, 38), (-71, 65, -27)), (-25, 96, 11), (92, 20, 32), (-3, -92, -40), (91, 18, 0)),
        _Pose(((8, 64, 13, 4), (65, 107, 32, -3), (80, 104, 55, -1), (84, 78, 47, 6)),
              ((62, 36, 70), (-60, 49, 64), (-55, 82, -17)), (-6, 94, 35), (88, -11, 46), (-91, -42, 5), (85, 12, -5)),
        _Pose(((14, 37, 39, 1), (59, 103, 38, -1), (81, 104, 62, 4), (74, 76, 46, -1)),
              ((55, 43, 71), (-42, 68, 60), (-79, 56, 25)), (10, 95, 30), (90, -21, 39), (-89, -44, 13), (86, 18, -9)),
        _Pose(((14, 42, 33, -1), (75, 106, 56, 3), (86, 112, 59, 1), (99, 97, 41, -6)),
              ((44, 66, 61), (-22, 87, 45), (-64, 72, 27)), (0, 99, 16), (90, -7, 43), (-55, -79, 26), (85, 19, -7)),
    ),
    "Y": (
        _Pose(((75, 103, 47, -3), (79, 118, 33, -6), (62, 105, 70, 7), (-12, 18, 3, -17)),
              ((80, 60, -5), (61, 79, -6), (74, 67, 4)), (-19, 97, 11), (16, -8, 98), (-31, -90, -29), (95, 3, -4)),
        _Pose(((79, 66, 55, 2), (88, 110, 56, 1), (75, 118, 40, 2), (3, 37, 4, -17)),
              ((73, 46, 50), (78, 52, -34), (76, 65, -3)), (2, 97, -24), (-17, 24, 96), (-34, -93, -12), (90, 9, 0)),
        _Pose(((80, 116, 62, -7), (82, 117, 61, -2), (83, 110, 70, -1), (-12, 32, 25, -15)),
              ((77, 35, 53), (77, 41, 49), (85, 46, 27)), (-33, 81, -48), (8, 53, 84), (-7, -98, -17), (92, -7, -6)),
        _Pose(((87, 103, 51, -4), (87, 88, 60, -5), (91, 90, 49, 13), (5, 14, 1, -11)),
              ((88, 42, 23), (73, 64, 26), (91, 27, -32)), (-19, 88, -43), (-35, 35, 87), (-27, -87, -42), (69, -6, 8)),
        _Pose(((74, 93, 67, 5), (95, 96, 55, 1), (73, 118, 61, 3), (4, 15, 10, -18)),
              ((81, 47, 36), (82, 57, -11), (57, 81, 14)), (-25, 78, -57), (-14, 55, 82), (-48, -86, 17), (91, 9, -4)),
    ),
}
# fmt: on

# The axes of the hand: x towards the thumb's side, y along the fingers, z out of the palm; centimetres from the wrist.
_KNUCKLES: Final = np.array([(2.7, 9.1, 0.1), (0.65, 9.5, 0.0), (-1.35, 9.0, 0.1), (-3.2, 8.0, 0.3)])
_WRIST_ENDS: Final = np.array([(1.4, 1.0, 0.0), (0.5, 1.0, 0.0), (-0.5, 1.0, 0.0), (-1.5, 1.0, 0.0)])
_FINGER_BONES: Final = np.array([(4.6, 2.7, 2.0), (5.0, 3.1, 2.1), (4.6, 2.9, 2.1), (3.6, 2.1, 1.9)])
_FINGER_RADII: Final = np.array(
    [(1.1, 1.0, 0.9, 0.72), (1.1, 1.02, 0.92, 0.74), (1.05, 0.97, 0.87, 0.7), (0.95, 0.83, 0.75, 0.6)]
)
_THUMB_BASE: Final = np.array((1.6, 2.2, 0.7))
_THUMB_BONES: Final = np.array((4.4, 3.3, 2.6))
_THUMB_RADII: Final = np.array((1.8, 1.3, 1.12, 0.82))
_HEEL: Final = np.array([(-2.0, 2.2, 0.6), (-2.9, 6.0, 0.5)])  # the ball of the little finger
_WEB_END: Final = np.array((0.6, 3.0, 0.2))  # of the skin between thumb and index
_ARM_ENDS: Final = np.array((0.85, -0.85, 0.0))  # x of its two bones and of the sleeve, which all have y 0.9
_ARM_LENGTH: Final = 18.0

# One entry for each capsule: 4 of the palm, 12 of the fingers, 3 of the thumb, heel, web; 2 of the arm, sleeve.
_OF_THE_HAND: Final = 21
_SLEEVE: Final = 23
_START_RADII: Final = np.concatenate(
    [(1.6, 1.6, 1.6, 1.6), _FINGER_RADII[:, :-1].ravel(), _THUMB_RADII[:-1], (1.4, 1.0, 1.55, 1.55, 3.6)]
)
_END_RADII: Final = np.concatenate(
    [(1.45, 1.45, 1.4, 1.3), _FINGER_RADII[:, 1:].ravel(), _THUMB_RADII[1:], (1.2, 1.1, 2.6, 2.6, 4.8)]
)
_MELTING: Final = np.concatenate([[1.4] * 4, [0.3] * 12, (0.9, 0.5, 0.3), (1.2, 0.9, 1.5, 1.5, 0.05)])  # see _surface

_SAMPLES: Final = 2  # each pixel is the mean of 2 x 2
_NOWHERE: Final = np.float32(-1e9)  # the depth where there is no hand
_CHUNK_PIXELS: Final = 50_000  # drawn at a time: what fits into the cache of a core
_SMALLEST_SIZE: Final = 8


class _Shapes(NamedTuple):
    """What n hands do: the fields of _Pose."""

    bends: Array  # (n, 4, 4)
    thumb: Array  # (n, 3, 3)
    fingers_to: Array  # (n, 3)
    palm_to: Array  # (n, 3)
    arm_to: Array  # (n, 3)
    place: Array  # (n, 3)


class _Look(NamedTuple):
    """What else is in n pictures, each (n,). Tones are 0 (black) to 1 (white); the picture goes from -1 to 1."""

    finger_length: Array
    thickness: Array
    palm_width: Array
    skin_tone: Array
    sleeve: Array  # from the wrist, cm
    sleeve_tone: Array
    light_from: Array  # degrees; 0 is the right, 90 above
    light_height: Array
    light_everywhere: Array
    wall_tone: Array
    wall_right: Array  # how much lighter on the right
    wall_below: Array
    curtain: Array  # the right edge of a strip on the left
    curtain_tone: Array
    curtain_softness: Array
    table: Array  # the upper edge of a strip at the bottom, downwards
    table_tone: Array
    table_tilt: Array
    stain_at: Array  # degrees
    stain_distance: Array
    stain_radius: Array
    stain_tone: Array
    blur: Array
    contrast: Array
    brightness: Array
    noise: Array  # its standard deviation in grey levels


_RANGES: Final = {
    "finger_length": (0.88, 1.1),
    "thickness": (0.9, 1.12),
    "palm_width": (0.9, 1.1),
    "skin_tone": (0.6, 1.05),
    "sleeve": (3.0, 18.0),
    "sleeve_tone": (0.05, 0.5),
    "light_from": (-20.0, 200.0),
    "light_height": (0.3, 1.2),
    "light_everywhere": (0.15, 0.5),
    "wall_tone": (0.55, 0.9),
    "wall_right": (-0.15, 0.15),
    "wall_below": (-0.15, 0.15),
    "curtain": (-3.0, -0.6),
    "curtain_tone": (0.2, 0.9),
    "curtain_softness": (0.03, 0.3),
    "table": (0.65, 1.9),
    "table_tone": (0.3, 0.9),
    "table_tilt": (-0.1, 0.1),
    "stain_at": (0.0, 360.0),
    "stain_distance": (1.1, 1.7),
    "stain_radius": (-0.3, 1.0),
    "stain_tone": (0.2, 1.1),
    "blur": (0.1, 0.25),
    "contrast": (0.8, 1.4),
    "brightness": (-0.1, 0.1),
    "noise": (0.0, 3.0),
}


def draw(letters: npt.ArrayLike, *, seed: int = 0, size: int = 28, first: int = 0) -> npt.NDArray[np.uint8]:
    """Draws one picture for each letter.

    A picture depends on its letter, the seed, the size and its number, and on nothing else: ``draw(letters[5:9],
    first=5)`` is ``draw(letters)[5:9]``.

    Args:
        letters: Labels, (n,) whole numbers from 0 (A) to 23 (Y).
        seed: Seed of all that is random.
        size: Height and width in pixels, from 8 up.
        first: The number of the first picture.

    Returns:
        uint8 (n, size, size, 1), from 0 (black) to 255 (white).

    Raises:
        CourseError: A letter is unknown or there is none, or the size, the number or the seed is out of range.

    Example:
        >>> a, b, y = draw([0, 1, 23], seed=3)
        >>> a.shape, bool((b == draw([1], seed=3, first=1)).all())
        ((28, 28, 1), True)

    Source: the hand shapes are those of https://en.wikipedia.org/wiki/American_manual_alphabet. A capsule is the union
    of balls that shrink along a line; see https://iquilezles.org/articles/smin for how they melt into each other.
    """
    return _draw("draw", letters, seed, size, first)


def load_data(*, count: int = 12_000, valid_count: int = 2_400, seed: int = 0) -> tuple[Pictures, Pictures]:
    """Draws hands to train on and others to validate with, all letters equally often and in random order.

    Args:
        count: Number of pictures to train on.
        valid_count: Number of pictures to validate with.
        seed: Seed of all that is random; the training and the validation pictures are independent draws.

    Returns:
        ``(x_train, y_train), (x_valid, y_valid)``: uint8 (n, 28, 28, 1) from 0 (black) to 255 (white), and int32 (n,)
        labels, the places in ``CLASS_NAMES``.

    Raises:
        CourseError: A count is not a whole number from 1 up, or the seed is out of range.

    Example:
        >>> (x_train, y_train), (x_valid, y_valid) = load_data(count=48, valid_count=24)
        >>> x_train.shape, sorted(y_valid.tolist()) == list(range(24))
        ((48, 28, 28, 1), True)
    """
    check_positive(count=count, valid_count=valid_count)
    return _part("train", count, seed), _part("valid", valid_count, seed)


def _part(name: str, count: int, seed: int) -> Pictures:
    order = randomness.permutation(randomness.stream_key(seed, "hands", name, "order"), count)
    labels = (order % len(CLASS_NAMES)).astype("int32")
    return _draw(name, labels, seed, INPUT_SHAPE[0], 0), labels


def _draw(part: str, letters: npt.ArrayLike, seed: int, size: int, first: int) -> npt.NDArray[np.uint8]:
    letters = _checked_letters(letters)
    check_positive(size=size)
    if size < _SMALLEST_SIZE:
        raise CourseError(f"size is {size}; give at least {_SMALLEST_SIZE} pixels")
    most = 2**31 // -(-size * size // 2)  # beyond it the counters of the noise would begin anew
    if isinstance(first, bool) or not isinstance(first, Integral) or not 0 <= first <= most - len(letters):
        raise CourseError(f"first is {first!r}; give a whole number from 0 to {most - len(letters):,}")
    step = max(1, _CHUNK_PIXELS // (size * size))

    def chunk(start: int) -> npt.NDArray[np.uint8]:
        some = letters[start : start + step]
        dice = _Dice(seed, part, int(first) + start, len(some))
        return _render(_draw_shapes(some, dice), _draw_look(dice), dice.noise(size), size)

    with ThreadPoolExecutor(select.processors()) as pool:  # NumPy lets other threads run while it computes
        return np.concatenate(list(pool.map(chunk, range(0, len(letters), step))))


def _checked_letters(letters: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.asarray(letters)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise CourseError(f"letters is {array.dtype} {array.shape}; give (n,) whole numbers from 0 to 23, n from 1 up")
    unknown = array[(array < 0) | (array >= len(CLASS_NAMES))]
    if len(unknown):
        raise CourseError(f"letters has {unknown[0]}; give whole numbers from 0 (A) to 23 (Y)")
    return array.astype(np.int64)


class _Dice:
    """The random numbers of ``count`` pictures from number ``first`` on; each name is a stream of its own."""

    def __init__(self, seed: int, part: str, first: int, count: int) -> None:
        self._path = (seed, "hands", part)
        self._first = first
        self._count = count

    def uniform(self, name: str, *columns: int) -> Array:
        return self._in_rows(randomness.uniform, name, columns)

    def normal(self, name: str, *columns: int) -> Array:
        return self._in_rows(randomness.normal, name, columns)

    def noise(self, size: int) -> Pixels:
        """Nearly normal, with a standard deviation of 1, (n, size, size): each is the sum of four random bytes."""
        key = randomness.stream_key(*self._path, "noise")
        bits = randomness.random_bits(key, (self._count, size * size), first_row=self._first)
        total = bits.view(np.uint8).reshape(self._count, size, size, 4).sum(-1, dtype=np.int32)
        return (total - 510).astype(np.float32) / np.float32(2 * np.sqrt((256**2 - 1) / 12))

    def _in_rows(self, distribution: Callable[..., Any], name: str, columns: tuple[int, ...]) -> Array:
        # A row holds all of a picture's numbers: what it draws must not depend on the pictures before it.
        shape = (self._count, math.prod(columns))
        draws = distribution(randomness.stream_key(*self._path, name), shape, first_row=self._first)
        return draws.astype("float64").reshape(self._count, *columns)


def _draw_shapes(letters: npt.NDArray[np.int64], dice: _Dice) -> _Shapes:
    number = _FIRST_POSES[letters] + (dice.uniform("pose", 1)[:, 0] * _POSE_COUNTS[letters]).astype(int)
    pose = _Shapes(*(field[number] for field in _ALL_POSES))
    together = dice.normal("bends of the hand", 1, 4) * (5, 5, 4, 1.5)
    alone = dice.normal("bends of the fingers", 4, 4) * (4, 5, 4, 2)
    turn = dice.normal("turn", 3) * (9, 11, 7)
    return _Shapes(
        bends=pose.bends + together + alone,
        thumb=_unit(pose.thumb) + 0.08 * dice.normal("thumb", 3, 3),
        fingers_to=_turned(_unit(pose.fingers_to), turn),
        palm_to=_turned(_unit(pose.palm_to), turn),
        arm_to=_unit(pose.arm_to) + 0.12 * dice.normal("arm", 3),
        place=pose.place / 100 + (2 * dice.uniform("place", 3) - 1) * (0.1, 0.06, 0.06),
    )


def _draw_look(dice: _Dice) -> _Look:
    low, high = np.array([_RANGES[name] for name in _Look._fields]).T
    return _Look(*(low + (high - low) * dice.uniform("look", len(low))).T)


def _render(shapes: _Shapes, look: _Look, noise: Pixels, size: int) -> npt.NDArray[np.uint8]:
    starts, ends = _skeleton(shapes, look)
    scale, starts, ends = _in_picture(starts, ends, shapes.place, size * _SAMPLES)
    thickness = (scale * look.thickness)[:, np.newaxis]
    melting = scale[:, np.newaxis] * _MELTING
    depth, right, below, is_sleeve = _surface(
        starts, ends, thickness * _START_RADII, thickness * _END_RADII, melting, size * _SAMPLES
    )
    is_hand = depth > _NOWHERE
    near = np.sqrt(np.maximum(1 - right * right - below * below, 0))
    angle = np.deg2rad(look.light_from)
    source = _unit(np.stack([np.cos(angle), -np.sin(angle), look.light_height], -1))
    light = right * _each(source[:, 0]) + below * _each(source[:, 1]) + near * _each(source[:, 2])
    light = np.maximum(light + _SPILL, 0) * _each((1.15 - look.light_everywhere) / (1 + _SPILL))
    light += _each(look.light_everywhere) * (near + 1) * _HALF
    light *= np.where(is_sleeve, _each(look.sleeve_tone), _each(look.skin_tone)) * is_hand
    cover = _shrunk(is_hand.astype(np.float32))
    light = _shrunk(light) * _openness(_shrunk(np.where(is_hand, depth, 0)), cover, scale)
    picture = _blurred(light + (1 - cover) * _background(look, size), look.blur)
    picture = (picture - _MIDDLE) * _each(look.contrast) + _each(_MIDDLE + look.brightness)
    levels = np.rint(255 * picture + noise * _each(look.noise))
    return np.clip(levels, 0, 255).astype(np.uint8)[..., np.newaxis]


def _skeleton(shapes: _Shapes, look: _Look) -> tuple[Array, Array]:
    """Gives the two ends of each bone, both (n, 24, 3), in centimetres: right, up, towards the viewer."""
    n = len(look.palm_width)
    ones = np.ones(n)
    width = np.stack([look.palm_width, ones, ones], -1)[:, np.newaxis]
    length = look.finger_length[:, np.newaxis, np.newaxis]
    bend, lean = np.cumsum(np.deg2rad(shapes.bends[..., :3]), -1), np.deg2rad(shapes.bends[..., 3:])
    towards = np.stack([np.cos(bend) * np.sin(lean), np.cos(bend) * np.cos(lean), np.sin(bend)], -1)  # (n, 4, 3, 3)
    knuckles = width * _KNUCKLES
    fingers = _chained(knuckles, towards * (length * _FINGER_BONES)[..., np.newaxis])  # (n, 4, 4, 3)
    thumb = _chained(_THUMB_BASE * width[:, 0], _unit(shapes.thumb) * (np.sqrt(length) * _THUMB_BONES[:, np.newaxis]))
    heel = width * _HEEL
    web = np.stack([0.75 * thumb[:, 1] + 0.25 * _THUMB_BASE, 0.55 * knuckles[:, 0] + 0.45 * _WEB_END], 1)
    starts = [width * _WRIST_ENDS, fingers[:, :, :-1].reshape(n, 12, 3), thumb[:, :-1], heel[:, :1], web[:, :1]]
    ends = [knuckles, fingers[:, :, 1:].reshape(n, 12, 3), thumb[:, 1:], heel[:, 1:], web[:, 1:]]

    y = _unit(shapes.fingers_to)
    z = _unit(shapes.palm_to - (shapes.palm_to * y).sum(-1, keepdims=True) * y)
    axes = np.stack([np.cross(y, z), y, z], 1)  # (n, axis of the hand, axis of the picture)
    arm = _unit(shapes.arm_to)
    arm_starts = 0.9 * axes[:, 1:2] + _ARM_ENDS[:, np.newaxis] * axes[:, :1]
    arm_starts[:, 2] += look.sleeve[:, np.newaxis] * arm
    arm_ends = arm_starts + _ARM_LENGTH * arm[:, np.newaxis]
    in_picture = [np.concatenate([*(point @ axes for point in points)], 1) for points in (starts, ends)]
    return np.concatenate([in_picture[0], arm_starts], 1), np.concatenate([in_picture[1], arm_ends], 1)


def _chained(root: Array, bones: Array) -> Array:
    """Sets bones (..., k, 3) one on the other's end, from the root (..., 3) on; gives the k + 1 joints."""
    root = root[..., np.newaxis, :]
    return np.concatenate([root, root + np.cumsum(bones, -2)], -2)


def _in_picture(starts: Array, ends: Array, place: Array, grid: int) -> tuple[Array, Array, Array]:
    """Scales and shifts the hands, without their arms, to their places; gives pixels a centimetre (n,), and pixels."""
    hand = np.concatenate([starts[:, :_OF_THE_HAND, :2], ends[:, :_OF_THE_HAND, :2]], 1)
    low, high = hand.min(1), hand.max(1)
    # A fist is nearer to the camera than an open hand, but does not fill the picture as much.
    scale = place[:, 0] * grid / ((high - low).max(1) + 1.5) ** 0.7 / 18**0.3
    flat = np.zeros((len(low), 1))
    middle = np.concatenate([(low + high) / 2, flat], -1)[:, np.newaxis]
    centre = grid * np.concatenate([0.5 + place[:, 1:] * (1, -1), flat], -1)[:, np.newaxis]
    zoom = scale[:, np.newaxis, np.newaxis] * (1, -1, 1)  # rows count downwards
    return scale, (starts - middle) * zoom + centre, (ends - middle) * zoom + centre


def _surface(
    starts: Array, ends: Array, start_radii: Array, end_radii: Array, melting: Array, grid: int
) -> tuple[Pixels, Pixels, Pixels, npt.NDArray[np.bool_]]:
    """Finds what is seen of capsules, all lengths in pixels.

    Where two surfaces are nearer to each other than ``melting``, they are mixed. All pictures have the k-th capsule
    drawn together, each in a window that starts where it must and is as large as the largest of them.

    Returns:
        Of each pixel, (n, grid, grid): its depth, how far the surface faces right and down there, and whether it
        is the last capsule's.
    """
    n, count = start_radii.shape
    seen = np.zeros((n * grid * grid, 3), np.float32)
    seen[:, 0] = _NOWHERE
    is_last = np.zeros(n * grid * grid, bool)
    offset = (np.arange(n, dtype=np.int32) * (grid * grid))[:, np.newaxis, np.newaxis]
    reach = np.maximum(start_radii, end_radii)[..., np.newaxis]
    low = np.clip(np.floor(np.minimum(starts, ends)[..., :2] - reach), 0, grid).astype(np.int32)
    high = np.clip(np.ceil(np.maximum(starts, ends)[..., :2] + reach), 0, grid).astype(np.int32)
    for k in range(count):
        width, height = (high[:, k] - low[:, k]).max(0)
        column = np.minimum(low[:, k, :1], grid - width)[:, np.newaxis] + np.arange(width, dtype=np.int32)
        row = np.minimum(low[:, k, 1:], grid - height)[:, np.newaxis] + np.arange(height, dtype=np.int32)[:, np.newaxis]
        start, bone = starts[:, k], ends[:, k] - starts[:, k]
        first_radius, last_radius = start_radii[:, k], end_radii[:, k]
        x = column + np.float32(0.5) - _each(start[:, 0])  # (n, 1, width)
        y = row + np.float32(0.5) - _each(start[:, 1])  # (n, height, 1)

        # How far along the bone is the ball whose surface is nearest to the viewer? Exact where the radius is constant.
        length2 = np.maximum(bone[:, 0] ** 2 + bone[:, 1] ** 2, 1e-6)  # as seen
        along = x * _each(bone[:, 0] / length2) + y * _each(bone[:, 1] / length2)
        inner = along * along * _each(length2)
        inner -= x * x
        inner -= y * y
        inner += _each(((first_radius + last_radius) / 2) ** 2)
        np.sqrt(np.maximum(inner, 0, out=inner), out=inner)
        inner *= _each(bone[:, 2] / np.sqrt(length2 * (length2 + bone[:, 2] ** 2)))
        along += inner
        np.clip(along, 0, 1, out=along)

        radius = along * _each(last_radius - first_radius) + _each(first_radius)
        right = x - along * _each(bone[:, 0])
        below = y - along * _each(bone[:, 1])
        near2 = radius * radius
        near2 -= right * right
        near2 -= below * below
        hit = np.flatnonzero(near2 > 0)
        place = (offset + row * grid + column).ravel()[hit]
        radius = radius.ravel()[hit]
        depth = (along * _each(bone[:, 2]) + _each(start[:, 2])).ravel()[hit] + np.sqrt(near2.ravel()[hit])
        before = np.take(seen, place, axis=0)
        softness = np.repeat(melting[:, k].astype(np.float32), width * height)[hit]
        share = np.clip((depth - before[:, 0]) / (2 * softness) + _HALF, 0, 1)
        found = np.stack(
            [depth + softness * (1 - share), right.ravel()[hit] / radius, below.ravel()[hit] / radius], axis=-1
        )
        seen[place] = before * (1 - share)[:, np.newaxis] + found * share[:, np.newaxis]
        if k == count - 1:
            is_last[place] = share > _HALF
    maps = seen.reshape(n, grid, grid, 3)
    return maps[..., 0], maps[..., 1], maps[..., 2], is_last.reshape(n, grid, grid)


def _openness(depth: Pixels, cover: Pixels, scale: Array) -> Pixels:
    """Gives the share of the light that reaches each pixel: less, the deeper it lies below its surroundings."""
    own = depth / np.maximum(cover, _SOME)
    share = np.ones_like(depth)
    for part in (14, 6):
        radius = max(depth.shape[1] // part, 1)
        around = _box_mean(depth, radius) / np.maximum(_box_mean(cover, radius), _SOME)
        share -= np.float32(0.55) * np.clip((around - own) / _each(2.5 * scale), 0, 1)
    return np.maximum(share, 0)


def _background(look: _Look, size: int) -> Pixels:
    x = (np.arange(size, dtype=np.float32) + _HALF) * np.float32(2 / size) - 1
    y = x[:, np.newaxis]
    wall = _each(look.wall_tone) + _each(look.wall_right) * x + _each(look.wall_below) * y
    open_share = np.clip((x - _each(look.curtain)) / _each(2 * look.curtain_softness) + _HALF, 0, 1)
    wall = wall * (_each(look.curtain_tone) * (1 - open_share) + open_share)
    wall = np.where(y + _each(look.table_tilt) * x > _each(look.table), wall * _each(look.table_tone), wall)
    at = np.deg2rad(look.stain_at)
    right, below = x - _each(look.stain_distance * np.cos(at)), y - _each(look.stain_distance * np.sin(at))
    stain = np.clip((_each(look.stain_radius) - np.sqrt(right * right + below * below)) * 8, 0, 1)
    return wall * (1 - stain * _each(1 - look.stain_tone))


def _blurred(pictures: Pixels, amount: Array) -> Pixels:
    """Gives each pixel's four neighbours this share of it, and the edges themselves for what lies beyond them."""
    share = _each(amount)
    padded = np.pad(pictures, ((0, 0), (1, 1), (0, 0)), mode="edge")
    pictures = pictures * (1 - 2 * share) + (padded[:, 2:] + padded[:, :-2]) * share
    padded = np.pad(pictures, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return pictures * (1 - 2 * share) + (padded[:, :, 2:] + padded[:, :, :-2]) * share


def _box_mean(pictures: Pixels, radius: int) -> Pixels:
    """Gives the mean of a square of 2 radius + 1 pixels around each; what lies beyond the edges is 0."""
    size, share = pictures.shape[1], np.float32(1 / (2 * radius + 1) ** 2)
    padded = np.pad(pictures, ((0, 0), (radius + 1, radius), (radius + 1, radius)))
    sums = np.cumsum(np.cumsum(padded, 1), 2)
    rows = sums[:, -size:] - sums[:, :size]
    return (rows[:, :, -size:] - rows[:, :, :size]) * share


def _shrunk(pictures: Pixels) -> Pixels:
    pairs = pictures[:, ::2] + pictures[:, 1::2]
    return (pairs[:, :, ::2] + pairs[:, :, 1::2]) * np.float32(0.25)


def _turned(vectors: Array, angles: Array) -> Array:
    """Turns vectors (n, 3) by angles (n, 3), in degrees, about the first axis, then the second, then the third."""
    cos, sin = np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))
    parts = list(vectors.T)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        parts[i], parts[j] = (
            parts[i] * cos[:, axis] - parts[j] * sin[:, axis],
            parts[i] * sin[:, axis] + parts[j] * cos[:, axis],
        )
    return np.stack(parts, -1)


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True))


def _each(values: npt.ArrayLike) -> Pixels:
    """One number for each picture, to compute with all its pixels."""
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]


_SPILL: Final = np.float32(0.3)  # how far light reaches around the corner
_HALF: Final = np.float32(0.5)
_SOME: Final = np.float32(1e-3)
_MIDDLE: Final = np.float32(0.55)  # the grey around which contrast is raised

_POSE_COUNTS: Final = np.array([len(_POSES[name]) for name in CLASS_NAMES])
_FIRST_POSES: Final = np.cumsum(_POSE_COUNTS) - _POSE_COUNTS
_ALL_POSES: Final = _Shapes(
    *(
        np.array(field, "float64")
        for field in zip(*(pose for name in CLASS_NAMES for pose in _POSES[name]), strict=True)
    )
)
