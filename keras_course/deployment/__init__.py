"""Deployment: opens saved models, answers pictures and texts, exports models to other formats, and serves them.

Nothing here imports Keras or a framework unless a model needs it: an exported model needs only its own runtime.
"""
