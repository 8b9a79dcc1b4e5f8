"""What other tools write and read: detections, annotations, tracks and label images."""
