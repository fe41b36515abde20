"""What a night and a production need done, one function a task: the DAGs and the command line call these.

Functions here act (files, database); what they decide is decided by pure functions of the other packages.
"""
