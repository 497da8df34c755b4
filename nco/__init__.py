"""Neural and classical combinatorial optimization."""
