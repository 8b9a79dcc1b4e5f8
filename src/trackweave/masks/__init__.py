"""Bit-packed masks: the record, overlap kernels, rescaling, run-length encoding."""
