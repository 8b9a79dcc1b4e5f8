"""Candidates without a neural network."""
