"""A model behind LitServe, for ``serving.py``: ``python serving_litserve.py model.onnx PORT``.

It follows LitServe's documentation, with its faster options: raw bodies instead of JSON with base64, micro-batches, and
answers that the worker encodes as JSON.
"""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Body, Response

from keras_course.cards import ModelCard
from keras_course.deployment.predict import predictions_of
from keras_course.preprocessing import prepare

Raw = Annotated[bytes, Body(media_type="application/octet-stream")]
BEGINNING_OF_NPY = b"\x93NUMPY"


class Pictures(litserve.LitAPI):
    """Accepts a picture or a prepared batch."""

    def __init__(self, model: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.path = model

    def setup(self, device: str) -> None:
        """Opens the model."""
        self.session = onnxruntime.InferenceSession(self.path)
        self.input = self.session.get_inputs()[0].name
        self.card = ModelCard.from_json(self.session.get_modelmeta().custom_metadata_map["card.json"])

    def decode_request(self, request: Raw) -> np.ndarray:
        """Converts a request body to the input of the model."""
        if request.startswith(BEGINNING_OF_NPY):
            return np.load(io.BytesIO(request), allow_pickle=False)
        return prepare(request, self.card.picture_format)[None]

    def batch(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        """Concatenates the inputs of several requests."""
        return np.concatenate(inputs), [len(one) for one in inputs]

    def predict(self, x: tuple[np.ndarray, list[int]]) -> tuple[np.ndarray, list[int]]:
        """Runs the model."""
        pictures, counts = x
        return self.session.run(None, {self.input: pictures.astype("float32")})[0], counts

    def unbatch(self, output: tuple[np.ndarray, list[int]]) -> list[np.ndarray]:
        """Splits the outputs by request."""
        logits, counts = output
        return np.split(logits, np.cumsum(counts)[:-1])

    def encode_response(self, output: np.ndarray) -> Response:
        """Returns the most probable class of each picture."""
        answers = [
            {"answers": [{"class": answer.class_name, "probability": answer.probability} for answer in row]}
            for row in predictions_of(output, self.card.class_names, top=1)
        ]
        return Response(json.dumps({"predictions": answers}), media_type="application/json")


if __name__ == "__main__":
    api = Pictures(Path(sys.argv[1]), max_batch_size=32, batch_timeout=0.001, api_path="/predict")
    service = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    service.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
