"""lstops: from a night of the LST-1 telescope to published, traceable DL3 data."""

__version__ = "0.1.0"
