"""All groups in one, for `dagster asset materialize -m ml_assets.definitions`."""

import dagster as dg

from ml_assets.cifar10 import definitions as cifar10
from ml_assets.mnist import definitions as mnist
from ml_assets.power import definitions as power
from ml_assets.tick import definitions as tick

defs = dg.Definitions.merge(mnist.defs, cifar10.defs, power.defs, tick.defs)
