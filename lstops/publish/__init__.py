"""Publication: from verified DL3 files to a read-only version that a stranger can use, by one rename."""
