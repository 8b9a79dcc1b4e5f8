"""Bit-packed masks: the record, overlap kernels, rescaling, run-length encoding."""

from trackweave.masks.overlap import mask_containment, mask_intersection, mask_iou, overlap
from trackweave.masks.packed import PackedMasks, packed_length
from trackweave.masks.rescale import rescale_masks, scaled_size
from trackweave.masks.rle import CocoRLE, decode_rle, encode_rle

__all__ = [
    "CocoRLE",
    "PackedMasks",
    "decode_rle",
    "encode_rle",
    "mask_containment",
    "mask_intersection",
    "mask_iou",
    "overlap",
    "packed_length",
    "rescale_masks",
    "scaled_size",
]
