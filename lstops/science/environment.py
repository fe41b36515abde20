"""The variables of every command that runs inside a step.

Compute nodes have no way out: astropy must not look for new Earth rotation tables (31 to 120 s of waiting per command).
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

_ASTROPY_CFG = """\
[utils.iers.iers]
auto_download = False
iers_degraded_accuracy = warn

[utils.data]
allow_internet = False
"""

#: one thread a process: two threads in two processes of a two-core node take three times as long (measured)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS", "BLOSC_NTHREADS")


def science_environ(scratch: Path) -> dict[str, str]:
    """Variables that a command needs in addition to those of this process.

    Parameters
    ----------
    scratch : Path
        Folder of the step; astropy's configuration is written below it.

    Returns
    -------
    dict
        Offline astropy, one thread, no display, and the commands of this Python's environment first on PATH, so that
        `lstchain_...` and `python` are those whose versions the manifest records.
    """
    config = scratch / "config"
    (config / "astropy").mkdir(parents=True, exist_ok=True)
    (config / "astropy" / "astropy.cfg").write_text(_ASTROPY_CFG)
    return {
        **dict.fromkeys(_THREADS, "1"),
        "MPLBACKEND": "agg",
        "XDG_CONFIG_HOME": str(config),
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "TMPDIR": str(scratch),
    }
