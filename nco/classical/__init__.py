"""Adapters to classical solvers, one file each."""
