"""Where detections come from: models, weights-free detectors, and what they leave out (embeddings, visibility)."""
