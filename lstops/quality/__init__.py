"""The run selection: which runs of the telescope are good, and why.

From a data check file to verdicts::

    table = run_quantities(read_datacheck(path))
    verdicts = judge_runs(table, load_profile("standard"))

The modules: `datacheck` reads files, `quantities` computes what describes a run, `profiles` holds the cuts, `judge`
decides, `intervals` finds the good time within a run, `select` answers a request over many nights.
"""
