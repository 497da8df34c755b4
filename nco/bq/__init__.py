"""BQ policies: attention networks on bisimulation-quotiented decision processes."""
