"""Operations of lstops that run inside a step, in the science environment: `python -m lstops.science.NAME`."""
