"""Makes ``python -m keras_course`` the same as ``keras-course``."""

from keras_course.cli import main

if __name__ == "__main__":
    main()
