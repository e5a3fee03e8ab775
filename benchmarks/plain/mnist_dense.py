"""The network of lesson 04 as a plain Keras script: python mnist_dense.py DATA.npz EPOCHS."""

import sys

import keras
import numpy as np

data, epochs = np.load(sys.argv[1]), int(sys.argv[2])
x_train, y_train = data["x_train"].astype("float32") / 255, data["y_train"]
x_valid, y_valid = data["x_test"].astype("float32") / 255, data["y_test"]

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(10),
    ]
)
model.summary()
steps = epochs * -(-len(x_train) // 32)
model.compile(
    optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.001, decay_steps=steps)),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(x_train, y_train, batch_size=32, epochs=epochs, validation_data=(x_valid, y_valid), verbose=2)
print("accuracy", np.mean(model.predict(x_valid, verbose=0).argmax(axis=-1) == y_valid))
model.save(sys.argv[3])
