"""The trained model goes to work: a picture in, an answer out, in a terminal, in another runtime, on a page.

Nothing here imports Keras or a framework before a model needs it: an exported model is opened by its own runtime alone.
"""
