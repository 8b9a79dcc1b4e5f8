"""The look that all pages share: colours in light and dark, buttons, and how documents are set."""

from __future__ import annotations

from importlib.resources import files

STYLESHEET = "look.css"


def stylesheet() -> str:
    """The style sheet, to be put into a page or served beside it."""
    return (files("trackweave.visualization") / STYLESHEET).read_text(encoding="utf-8")
