"""Reader and writer of every artifact, side by side; nothing is ever unpickled."""
