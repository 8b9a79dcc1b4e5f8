"""Drawing: objects over frames, trails, contact sheets, and the videos that hold them."""
