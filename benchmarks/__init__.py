"""Programs that print the tables of `docs/benchmarks.md`: `python -m benchmarks.NAME --help`."""
