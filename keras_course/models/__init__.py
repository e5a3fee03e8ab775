"""One architecture family per file; each builder is a plain function that returns a ``keras.Model``."""

from keras_course.models.bert import (
    bert_encoder,
    masked_word_head,
    masked_word_model,
    pooled_encoder,
    question_answering_model,
    sentence_encoder,
    text_classifier,
)
from keras_course.models.convolutional import cnn_classifier
from keras_course.models.dense import dense_classifier, dense_regressor
from keras_course.models.efficientnet_lite import efficientnet_lite
from keras_course.models.line import best_line, line_gradient, line_loss, line_model, predict_line
from keras_course.models.neurons import ACTIVATIONS, linear_chain, multiply_out, neuron
from keras_course.models.ngrams import KneserNey
from keras_course.models.parameters import ParameterRow, format_parameter_table, parameter_table
from keras_course.models.polynomial import fit_polynomial
from keras_course.models.recurrent import recurrent_language_model
from keras_course.models.transformer import (
    TextEmbedding,
    TransformerBlock,
    cached_language_model,
    causal_language_model,
)

__all__ = [
    "ACTIVATIONS",
    "KneserNey",
    "ParameterRow",
    "TextEmbedding",
    "TransformerBlock",
    "bert_encoder",
    "best_line",
    "cached_language_model",
    "causal_language_model",
    "cnn_classifier",
    "dense_classifier",
    "dense_regressor",
    "efficientnet_lite",
    "fit_polynomial",
    "format_parameter_table",
    "line_gradient",
    "line_loss",
    "line_model",
    "linear_chain",
    "masked_word_head",
    "masked_word_model",
    "multiply_out",
    "neuron",
    "parameter_table",
    "pooled_encoder",
    "predict_line",
    "question_answering_model",
    "recurrent_language_model",
    "sentence_encoder",
    "text_classifier",
]
