"""Boxes: conversion, scaling, IoU."""

from trackweave.boxes.convert import box_areas, box_iou, clip_boxes, scale_boxes, xywh_to_xyxy, xyxy_to_xywh

__all__ = ["box_areas", "box_iou", "clip_boxes", "scale_boxes", "xywh_to_xyxy", "xyxy_to_xywh"]
