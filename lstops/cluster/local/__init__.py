"""A scheduler for one machine, called like SLURM: `python -m lstops.cluster.local {sbatch,squeue,sacct,scancel}`.

It understands the options we use and prints the same text as SLURM, so that one client serves both. A job is a
supervisor process in a session of its own, which outlives whoever submitted it. Only the standard library is imported:
every look at the queue starts this program.
"""
