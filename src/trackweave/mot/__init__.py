"""Box tracking: detections linked frame by frame into identities."""
