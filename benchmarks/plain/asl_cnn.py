"""The two networks of lesson 06 as a plain Keras script: python asl_cnn.py DATA.npz EPOCHS MODEL.keras."""

import sys

import keras
import numpy as np

data, epochs = np.load(sys.argv[1]), int(sys.argv[2])
x_train, y_train = data["x_train"].astype("float32") / 255, data["y_train"]
x_valid, y_valid = data["x_test"].astype("float32") / 255, data["y_test"]
steps = epochs * -(-len(x_train) // 64)


def train(model):
    """Trains a network and prints its accuracy."""
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.001, decay_steps=steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x_train, y_train, batch_size=64, epochs=epochs, validation_data=(x_valid, y_valid), verbose=2)
    print("accuracy", np.mean(model.predict(x_valid, verbose=0).argmax(axis=-1) == y_valid))


keras.utils.set_random_seed(0)
cnn = keras.Sequential([keras.Input((28, 28, 1))])
for filters in (25, 50, 75):
    cnn.add(keras.layers.Conv2D(filters, 3, padding="same"))
    cnn.add(keras.layers.BatchNormalization())
    cnn.add(keras.layers.ReLU())
    if filters == 50:
        cnn.add(keras.layers.Dropout(0.2))
    cnn.add(keras.layers.MaxPooling2D())
cnn.add(keras.layers.Flatten())
cnn.add(keras.layers.Dense(512, activation="relu"))
cnn.add(keras.layers.Dropout(0.3))
cnn.add(keras.layers.Dense(24))
train(cnn)
cnn.save(sys.argv[3])

dense = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
for _ in range(2):
    dense.add(keras.layers.Dense(512, activation="relu"))
dense.add(keras.layers.Dense(24))
train(dense)
