"""Fundamentals of Deep Learning as tested software."""
