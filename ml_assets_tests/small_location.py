"""A group's code location with small trainings; the variable `SMALL_GROUP` names it."""

import importlib
import os

from ml_assets_tests.month.small import shrink

shrink()
defs = importlib.import_module(f"ml_assets.{os.environ['SMALL_GROUP']}.definitions").defs
