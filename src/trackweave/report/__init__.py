"""Pages about runs: they read what a run wrote and change nothing of it."""

from trackweave.report.page import write_report

__all__ = ["write_report"]
