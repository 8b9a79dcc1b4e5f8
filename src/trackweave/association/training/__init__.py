"""Training of learned association."""
