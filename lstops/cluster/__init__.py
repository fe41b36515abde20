"""The scheduler: commands, parsers, client, transports; one client for SLURM over SSH and the local one."""
