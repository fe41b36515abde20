"""`make demo`: a whole observatory on one machine, and the main job run through it."""
