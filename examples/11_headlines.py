# %% [markdown]
# # 11 · Headlines with a recurrent network and a Transformer
# A network that predicts the next word of a sentence can write sentences: it draws a word from its prediction, adds it,
# and predicts again.
#
# - needs: one backend
# - data: a file with one sentence a line or a column of headlines (a sample of sentences by Shakespeare ships with the
#   package)
# - time: eight minutes on two cores
# - result: embeddings, new sentences, and the held-out perplexity of three language models; README has measured values
#
# Run it with `keras-course run 11_headlines`, with `python examples/11_headlines.py`, or cell by cell in JupyterLab.

# %%
from keras_course.lesson import open_run, parse_options

options = parse_options("Writes sentences with a recurrent network and a Transformer.", epochs=4, batch_size=128)

# %% The backend is selected: now Keras can be imported.
from dataclasses import replace

import keras

from keras_course import evaluation, plots
from keras_course.cards import ModelCard
from keras_course.datasets import sentences
from keras_course.generation import Writer, log_probabilities
from keras_course.models import KneserNey, causal_language_model, recurrent_language_model
from keras_course.preprocessing import text
from keras_course.training import fit

# %% [markdown]
# ## 1. Data
# No sentence is in both parts, not even with other capitals or punctuation marks: otherwise a network that has learned
# a sentence by heart would look as if it knew the language.

# %%
source = sentences.locate(options.data)
train, valid = sentences.split(sentences.load_data(source), seed=options.seed)
print(f"{sentences.describe(source)}: {len(train):,} sentences for training, {len(valid):,} for validation")

# %% [markdown]
# A *token* is a word with a number. The vocabulary has the words that occur at least twice in the training sentences;
# all others are `[UNK]`. `[END]` stands before the first word and after the last one.

# %%
words = text.word_format(train, min_count=2, padding="left")
print(f"a vocabulary of {len(words.vocabulary):,} tokens; the longest sentence has {words.sequence_length} of them")
print(train[0], "->", text.encode([train[0]], words)[0].tolist())

# %% [markdown]
# ## 2. Look at it
# A network cannot multiply a weight by a word. A *one-hot* vector has a 1 at the number of the word and 0 elsewhere: as
# many numbers as the vocabulary, and all words are equally far apart. An *embedding* gives each word a short vector
# that is learned like any other weight; it is the row of a table, which is what the product of a one-hot vector and
# the table would be.

# %%
run = open_run("11_headlines", options)
recurrent = recurrent_language_model(
    vocabulary_size=len(words.vocabulary), sequence_length=words.sequence_length, seed=options.seed
)
frequent = [words.vocabulary[number] for number in range(3, min(9, len(words.vocabulary)))]
numbers = [words.numbers[word] for word in frequent]
table = keras.ops.convert_to_numpy(recurrent.get_layer("embedding").embeddings)
before = plots.one_hot_and_embedding(frequent, numbers, table)
run.add_figure("one_hot_and_embedding", before, "The most frequent words as one-hot vectors, and in a new embedding.")

# %% [markdown]
# ## 3. Model
# The recurrent network reads the words of the beginning of a sentence one after the other and keeps a state of 100
# numbers, an *LSTM*. The last state predicts the next word. Each beginning of each sentence is a sample; shorter ones
# are filled up on the left.
#
# The Transformer looks at all earlier words at once, and predicts the next word at each place of a sentence in one
# pass. Its table of words is also its last layer, so it has fewer parameters.

# %%
causal_words = replace(words, padding="right")
transformer = causal_language_model(
    vocabulary_size=len(words.vocabulary),
    sequence_length=words.sequence_length,
    embedding_dim=64,
    seed=options.seed,
)
x, y = text.prefixes(train, words)
print(f"LSTM: {recurrent.count_params():,} parameters, {len(x):,} beginnings of sentences")
print(f"Transformer: {transformer.count_params():,} parameters, {len(train):,} sentences")

# %% [markdown]
# ## 4. Train
# The learning rate decreases along half a cosine. A Transformer also needs a few hundred small steps at first. It gets
# twice as many epochs, because each of them has fewer steps: it learns from all words of a sentence at once.


# %%
def schedule(samples, batch_size, *, epochs=options.epochs, warmup=0):
    """Returns the learning rates of a training with so many samples in an epoch."""
    steps = epochs * -(-samples // batch_size)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(0.01, steps)
    warmup = min(warmup, steps // 4)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=0.003, warmup_steps=warmup)


# %%
history = fit(
    recurrent,
    (x, y),
    text.prefixes(valid, words),
    optimizer=keras.optimizers.Adam(schedule(len(x), options.batch_size)),
    epochs=options.epochs,
    batch_size=options.batch_size,
    seed=options.seed,
    run=run,
    log_steps=options.log_steps,
    progress=not options.quiet,
)
run.add_figure("curves", plots.training_curves(history), "LSTM: loss and accuracy after each epoch.")

# %%
with run.inside("transformer") as beside:
    fit(
        transformer,
        text.sequences(train, causal_words),
        text.sequences(valid, causal_words, cut=True),
        optimizer=keras.optimizers.Adam(schedule(len(train), 32, epochs=2 * options.epochs, warmup=200)),
        epochs=2 * options.epochs,
        batch_size=32,
        seed=options.seed,
        run=beside,
        progress=False,
    )

# %% [markdown]
# ## 5. Evaluate
# *Perplexity* is the exponential of the mean cross entropy of each word: a model with a perplexity of 100 is as unsure
# as one that guesses evenly among 100 words. The third model only counts how often a word follows the two before it;
# *Kneser-Ney smoothing* gives a probability to what it has never seen. All three are measured on the same words of the
# same held-out sentences.

# %%
counting = KneserNey(order=3, vocabulary=words.vocabulary[1:]).fit([text.split(line, words) for line in train])
surprises = {
    "Kneser-Ney": counting.log_probabilities([text.split(line, words) for line in valid]),
    "LSTM": log_probabilities(recurrent, words, valid),
    "Transformer": log_probabilities(transformer, causal_words, valid),
}
perplexities = {name: evaluation.perplexity(each) for name, each in surprises.items()}
for name, value in perplexities.items():
    print(f"{name}: held-out perplexity {value:.1f}")
run.add_figure("perplexities", plots.perplexities(perplexities), "Held-out perplexity; smaller is better.")

# %% [markdown]
# ### What it writes
# Each word is drawn from the prediction. A *temperature* below 1 makes probable words more probable.

# %%
writer = Writer(transformer, causal_words)
for number in range(5):
    for step in writer.write(temperature=0.8, seed=options.seed + number, length=words.sequence_length):
        print(step.text, end="", flush=True)
    print()

# %% [markdown]
# ### What it might have written
# At each step, the most probable words and their probabilities.

# %%
steps = list(writer.write(strategy="greedy", length=8))
run.add_figure("next_words", plots.next_words(steps), "The most probable words at each step of a sentence.")

# %% [markdown]
# ### What the embedding has learned
# Words that stand in similar places have similar vectors. The picture shows the two directions in which they vary most.

# %%
table = keras.ops.convert_to_numpy(transformer.get_layer("embedding").tables["tokens"])
shown = words.vocabulary[3:53]
learned = plots.embedding_map(shown, table[3 : 3 + len(shown)])
run.add_figure("embedding", learned, "The vectors of frequent words: words that are used alike are neighbors.")

# %% [markdown]
# ### Characters instead of words
# A model of characters has no unknown words and a small vocabulary, but longer sequences. Perplexities for each token
# cannot be compared then; bits for each character can.

# %%
letters = text.character_format(train, padding="right", largest=100)
letters = replace(letters, sequence_length=min(letters.sequence_length, 96))
spelling = causal_language_model(
    vocabulary_size=len(letters.vocabulary), sequence_length=letters.sequence_length, seed=options.seed
)
with run.inside("characters") as beside:
    fit(
        spelling,
        text.sequences(train, letters, cut=True),
        optimizer=keras.optimizers.Adam(schedule(len(train), 32, warmup=200)),
        epochs=options.epochs,
        batch_size=32,
        seed=options.seed,
        run=beside,
        progress=False,
    )
short = [line for line in valid if len(line) < letters.sequence_length]
bits = evaluation.bits_per_character(log_probabilities(spelling, letters, short), sum(len(line) + 1 for line in short))
print(f"characters: {bits:.2f} bits for each character of {len(short):,} held-out sentences")
print("".join(step.text for step in Writer(spelling, letters).write(temperature=0.8, length=80, seed=options.seed)))

# %%
accuracy = history["val_accuracy"][-1]
run.finish(
    recurrent,
    history,
    title="Headlines with a recurrent network and a Transformer",
    metrics={
        "accuracy": accuracy,
        "loss": history["val_loss"][-1],
        "perplexity": perplexities,
        "bits_per_character": bits,
    },
    samples=len(x),
    card=ModelCard(
        title="The next word of a sentence",
        class_names=words.vocabulary,
        text_format=words,
        data=sentences.describe(source),
        limits="It continues sentences like the training sentences, with their words, and knows no facts.",
    ),
)

# %% [markdown]
# ## 6. What to try next
# - Your own headlines: `--data articles.csv` reads its column `headline`.
# - `cell="gru"`: a simpler recurrent network. Is it worse?
# - A temperature of 0.3, then of 1.5. What changes? What does `top_p=0.9` prevent?
# - `strategy="beam"`: the most probable sentences. Why are they duller than drawn ones?
# - `min_count=5`: fewer words, a smaller perplexity. Is the model better?
# - Twice the `embedding_dim` and `num_layers=4`: does the Transformer over-fit? What does `dropout=0.3` do?
