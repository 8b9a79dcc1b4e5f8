"""`flow`: mask propagation without weights, by optical flow, appearance and re-detection."""
