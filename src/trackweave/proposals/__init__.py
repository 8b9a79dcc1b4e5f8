"""Candidates without a neural network."""

from trackweave.proposals.regions import RegionProposals, RegionSettings

__all__ = ["RegionProposals", "RegionSettings"]
