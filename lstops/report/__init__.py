"""Reports for people: the night in one self-contained page, and as a table for the terminal."""
