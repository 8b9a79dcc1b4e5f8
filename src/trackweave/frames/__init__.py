"""Videos as lazy, random-access sequences of RGB frames: `open_frames` and what it returns."""
