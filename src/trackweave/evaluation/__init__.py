"""Scores against ground truth: records in, numbers out."""
