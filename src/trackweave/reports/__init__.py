"""Pages about runs: they read what a run wrote and change nothing of it."""
