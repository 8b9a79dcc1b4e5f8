"""Simulated videos with exact truth: scenes, motions, cameras, occlusion, and what a detector reports of them."""
