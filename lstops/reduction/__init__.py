"""Reduction: the steps from a night's DL1 to DL2, DL3 and index, and which IRFs fit a run."""
