"""What other tools read: pictures, videos, label images, MOT text."""

from trackweave.formats.annotations import AnnotationTable
from trackweave.formats.colours import css, track_colour
from trackweave.formats.davis import davis_palette, export_davis, flatten_labels, read_label_png, write_label_png
from trackweave.formats.detections import DetectionTable, read_detections
from trackweave.formats.kitti import read_kitti_annotations
from trackweave.formats.mot import read_mot, write_mot
from trackweave.formats.mot_rows import read_mot_annotations
from trackweave.formats.motchallenge import MotSequence, read_ground_truth, read_sequence
from trackweave.formats.mp4 import Mp4Writer
from trackweave.formats.overlay import contact_sheet, draw_objects
from trackweave.formats.video_json import VideoJson

__all__ = [
    "AnnotationTable",
    "DetectionTable",
    "MotSequence",
    "Mp4Writer",
    "VideoJson",
    "contact_sheet",
    "css",
    "davis_palette",
    "draw_objects",
    "export_davis",
    "flatten_labels",
    "read_detections",
    "read_ground_truth",
    "read_kitti_annotations",
    "read_label_png",
    "read_mot",
    "read_mot_annotations",
    "read_sequence",
    "track_colour",
    "write_label_png",
    "write_mot",
]
