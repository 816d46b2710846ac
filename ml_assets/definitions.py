"""All groups in one, for `dagster asset materialize -m ml_assets.definitions`."""

import dagster as dg

from ml_assets.mnist import definitions as mnist
from ml_assets.power import definitions as power
from ml_assets.tick import definitions as tick

defs = dg.Definitions.merge(mnist.defs, power.defs, tick.defs)
