"""Simulated videos with exact truth: scenes, motions, cameras, occlusion, and a detector with errors."""
