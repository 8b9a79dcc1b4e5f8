"""Property tests run the same examples on every machine, and are not timed."""

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci")
