"""All groups in one, for `dagster asset materialize -m ml_assets.definitions`."""

import dagster as dg

from ml_assets.mnist import definitions as mnist

defs = dg.Definitions.merge(mnist.defs)
