"""Machine-learning pipelines that retrain themselves, kept as Dagster assets.

Each pipeline is a code location of its own (`ml_assets.mnist.definitions`, …);
`ml_assets.definitions` merges them for the command line. Importing this package imports
nothing heavy.
"""
