"""Models of association; needs torch, the extra `train`."""
