"""Weave per-frame masks and boxes into identities."""

__version__ = "0.1.0"
