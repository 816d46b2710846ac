"""Pure machine learning: numpy, scikit-learn, Keras. No Dagster, no MLflow.

TensorFlow, Keras, scikit-learn and matplotlib are imported inside the functions that use
them, so that a code location loads in about a second.
"""

import os

# TensorFlow leaves these, a third faster at convolutions, to processors with AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
