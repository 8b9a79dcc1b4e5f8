"""Box tracking: detections linked frame by frame into identities.

`trackweave.ByteTracker` is the way in. Nothing is imported here: settings are read by every command, and should not
bring the compiled kernels with them.
"""
