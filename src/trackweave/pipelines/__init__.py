"""Whole jobs: open the input, compose the packages below, leave a run folder."""
