"""What a person said about a run becomes constraints, everything else is decided again, and the next questions."""
