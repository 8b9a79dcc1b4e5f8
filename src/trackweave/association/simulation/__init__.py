"""A simulator of crowds: objects on a ground plane, a camera, and a detector with its mistakes; see `simulate`."""
