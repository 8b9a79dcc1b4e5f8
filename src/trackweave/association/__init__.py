"""Learned association: the samples it learns from, and what is made of them."""

from trackweave.association.data_collection import SampleLogger
from trackweave.association.inspection import InspectionReport, inspect_samples

__all__ = ["InspectionReport", "SampleLogger", "inspect_samples"]
