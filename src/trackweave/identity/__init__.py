"""Identity: raw tracks merged, stitched and nested."""
