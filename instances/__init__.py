"""Problems, instances, files, checks and results (numpy and scipy only)."""

if not __name__.startswith("nco."):
    raise ImportError(
        "this folder installs as nco.instances: run 'pip install -e .' and 'import nco.instances'"
    )
