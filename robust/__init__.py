"""Two-stage robust optimization."""

if not __name__.startswith("nco."):
    raise ImportError(
        "this folder installs as nco.robust: run 'pip install -e .' and 'import nco.robust'"
    )

#: Problems with a value network: `nco label` and `nco train` know how to make one.
LEARNED = (
    "two-stage-knapsack", "capital-budgeting", "capital-budgeting-loans", "facility-location",
)  # fmt: skip

#: Problems of one's own, which have a network once labels are made of their instances.
OWN = "two-stage"
