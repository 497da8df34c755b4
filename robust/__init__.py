"""Two-stage robust optimization."""

if not __name__.startswith("nco."):
    raise ImportError(
        "this folder installs as nco.robust: run 'pip install -e .' and 'import nco.robust'"
    )
