"""Deployment: opens saved models, classifies pictures, exports models to other formats, and serves them over HTTP.

Nothing here imports Keras or a framework unless a model needs it: an exported model needs only its own runtime.
"""
