"""Mixed-integer programming: backends and the meta-solver built on them."""

if not __name__.startswith("nco."):
    raise ImportError(
        "this folder installs as nco.mip: run 'pip install -e .' and 'import nco.mip'"
    )
