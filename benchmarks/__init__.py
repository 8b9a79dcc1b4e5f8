"""Benchmarks: figures with the command that makes them. None of them runs as a test."""
