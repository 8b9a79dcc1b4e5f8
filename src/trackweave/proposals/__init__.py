"""Candidates from images: regions, detectors, automatic masks; how they are filtered and nested."""
