"""Networks that read a window of rows and forecast a number, or its quantiles.

They take rows as they are and answer in the target's unit: what was fitted to scale them is part
of the network. All consist of Keras's own layers and operations, so a saved network predicts
wherever Keras is (`load_model(path, compile=False)`), without this package.
"""

from functools import partial
from typing import TYPE_CHECKING

from ml_assets.ml.scaling import StandardScaler

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

QUANTILES = (0.1, 0.5, 0.9)
HEADS = 4
BLOCKS = 2


def pinball(target: "tf.Tensor", quantiles: "tf.Tensor") -> "tf.Tensor":
    """Mean pinball loss `(n,)` of forecasts `(n, 3)` of the quantiles of targets `(n, 1)`.

    Source: R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46 (1978).
    """
    from keras import ops

    levels = ops.convert_to_tensor(QUANTILES, dtype=quantiles.dtype)
    missed = ops.cast(target, quantiles.dtype) - quantiles
    return ops.mean(ops.maximum(levels * missed, (levels - 1) * missed), axis=-1)


# What a saved training needs to be continued, besides what Keras has.
CUSTOM_OBJECTS = {"pinball": pinball}


def lstm(
    steps: int, inputs: StandardScaler, target: StandardScaler, *, units: int, dropout: float
) -> "keras.Model":
    """One LSTM layer, whose last state is read out linearly.

    Source: S. Hochreiter and J. Schmidhuber, "Long short-term memory" (1997).

    Args:
        steps: Rows of a window.
        inputs: Scaler of the k columns.
        target: Scaler of the target.
        units: Width of the network.
        dropout: Share of the units that are dropped while it is trained.

    Returns:
        A model from `(n, steps, k)` to `(n, 1)`.
    """
    from keras import layers

    rows, hidden = _scaled(steps, inputs)
    hidden = layers.LSTM(units)(hidden)
    return _model(rows, _point(hidden, dropout), target, "lstm")


def gru(
    steps: int, inputs: StandardScaler, target: StandardScaler, *, units: int, dropout: float
) -> "keras.Model":
    """One GRU layer, otherwise as `lstm`.

    Source: K. Cho et al., "Learning phrase representations using RNN encoder-decoder", arXiv
    1406.1078.
    """
    from keras import layers

    rows, hidden = _scaled(steps, inputs)
    hidden = layers.GRU(units)(hidden)
    return _model(rows, _point(hidden, dropout), target, "gru")


def transformer(
    steps: int, inputs: StandardScaler, target: StandardScaler, *, units: int, dropout: float
) -> "keras.Model":
    """A Transformer encoder of two blocks, read out at the last step; arguments as of `lstm`.

    Positions are learned: they are the bias of the first projection, one for each step. Every
    step may look at every other: all of them are past. Blocks normalize before they mix.

    Sources: A. Vaswani et al., arXiv 1706.03762; R. Xiong et al., arXiv 2002.04745.
    """
    from keras import layers

    rows, hidden = _scaled(steps, inputs)
    hidden = layers.EinsumDense(
        "btk,ku->btu", (steps, units), bias_axes="tu", bias_initializer="random_normal"
    )(hidden)
    for _ in range(BLOCKS):
        normal = layers.LayerNormalization()(hidden)
        mixed = layers.MultiHeadAttention(HEADS, units // HEADS, dropout=dropout)(normal, normal)
        hidden = layers.Add()([hidden, layers.Dropout(dropout)(mixed)])
        normal = layers.LayerNormalization()(hidden)
        mixed = layers.Dense(units)(layers.Dense(2 * units, activation="gelu")(normal))
        hidden = layers.Add()([hidden, layers.Dropout(dropout)(mixed)])
    last = layers.LayerNormalization()(hidden[:, -1])
    return _model(rows, _point(last, dropout), target, "transformer")


def tft(
    steps: int, inputs: StandardScaler, target: StandardScaler, *, units: int, dropout: float
) -> "keras.Model":
    """The Temporal Fusion Transformer for one step ahead; arguments as of `lstm`.

    Source: B. Lim, S. Arik, N. Loeff and T. Pfister, arXiv 1912.09363. Here every input is
    observed and only the next row is forecast. So there are no static covariates and no known
    future, that is no decoder and no static enrichment, and only the last step asks for attention.
    The layers `selection` `(n, steps, k)` and `attention` `(n, heads, steps)` are the weights by
    which variables and steps count; each sums to 1 over its last axis.

    Returns:
        A model from `(n, steps, k)` to the quantiles `(n, 3)`, ascending.
    """
    from keras import layers, ops

    rows, hidden = _scaled(steps, inputs)
    gated = partial(_gated_residual, units=units, dropout=dropout)
    selected = _selected_variables(hidden, steps, len(inputs.mean), units, dropout)
    encoded = layers.LSTM(units, return_sequences=True)(selected)
    encoded = _gate(encoded, selected, units, dropout)
    last = encoded[:, -1]
    attended = _gate(_attended(last, encoded, units, dropout), last, units, dropout)
    decided = _gate(gated(attended), last, units, dropout)
    quantiles = layers.Dense(len(QUANTILES), name="quantiles")(decided)
    return _model(rows, ops.sort(quantiles, axis=-1), target, "tft")


BUILDERS = {"lstm": lstm, "gru": gru, "transformer": transformer, "tft": tft}


def _scaled(steps: int, scaler: StandardScaler) -> tuple["tf.Tensor", "tf.Tensor"]:
    """The input, and the same scaled as `StandardScaler.transform` does it."""
    from keras import layers, ops

    rows = layers.Input((steps, len(scaler.mean)))
    scales = [1 / scale for scale in scaler.scale]
    offsets = [-mean / scale for mean, scale in zip(scaler.mean, scaler.scale, strict=True)]
    scaled = layers.Rescaling(scales, offsets, name="scaled")(rows)
    return rows, ops.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0)


def _model(
    rows: "tf.Tensor", answer: "tf.Tensor", scaler: StandardScaler, name: str
) -> "keras.Model":
    """The model from the rows to the answer, in the target's unit."""
    import keras

    unscaled = keras.layers.Rescaling(scaler.scale[0], scaler.mean[0], name="unscaled")(answer)
    return keras.Model(rows, unscaled, name=name)


def _point(hidden: "tf.Tensor", dropout: float) -> "tf.Tensor":
    """The point forecast `(n, 1)`; before training it is close to the mean, the naive one."""
    from keras import initializers, layers

    small = initializers.RandomNormal(stddev=0.01)
    return layers.Dense(1, kernel_initializer=small)(layers.Dropout(dropout)(hidden))


def _gate(hidden: "tf.Tensor", skipped: "tf.Tensor", units: int, dropout: float) -> "tf.Tensor":
    """Let through a part of `hidden`, add what was skipped, normalize (Lim et al., eq. 5)."""
    from keras import layers, ops

    passed = ops.glu(layers.Dense(2 * units)(layers.Dropout(dropout)(hidden)))
    return layers.LayerNormalization()(layers.Add()([skipped, passed]))


def _gated_residual(
    hidden: "tf.Tensor", *, units: int, dropout: float, out: int | None = None
) -> "tf.Tensor":
    """A gated residual network of `out` outputs, by default `units` (Lim et al., eqs. 2-4)."""
    from keras import layers

    changed = layers.Dense(units)(layers.Dense(units, activation="elu")(hidden))
    skipped = hidden if out is None else layers.Dense(out)(hidden)
    return _gate(changed, skipped, out or units, dropout)


def _selected_variables(
    scaled: "tf.Tensor", steps: int, variables: int, units: int, dropout: float
) -> "tf.Tensor":
    """The variables `(n, steps, k)` as one embedding `(n, steps, units)` (eqs. 6-8).

    Each passes a gated residual network of its own; their weights depend on all of them.
    """
    from keras import layers, ops

    shape = (steps, variables)
    each = partial(layers.EinsumDense, "btku,kuv->btkv", bias_axes="kv")
    embedded = layers.EinsumDense("btk,ku->btku", (*shape, units), bias_axes="ku")(scaled)
    flat = layers.Reshape((steps, variables * units))(embedded)
    weights = _gated_residual(flat, units=units, dropout=dropout, out=variables)
    weights = layers.Softmax(name="selection")(weights)
    changed = each((*shape, units))(each((*shape, units), activation="elu")(embedded))
    changed = layers.Dropout(dropout, noise_shape=(None, 1, variables, units))(changed)
    passed = ops.glu(each((*shape, 2 * units))(changed))
    changed = layers.LayerNormalization()(layers.Add()([embedded, passed]))
    return ops.einsum("btku,btk->btu", changed, weights)


def _attended(last: "tf.Tensor", encoded: "tf.Tensor", units: int, dropout: float) -> "tf.Tensor":
    """What the last step finds in all steps, by heads that share one value (eqs. 13-16)."""
    from keras import layers, ops

    size, steps = units // HEADS, encoded.shape[1]
    query = layers.EinsumDense("bu,uhs->bhs", (HEADS, size), bias_axes="hs")(last)
    keys = layers.EinsumDense("btu,uhs->bths", (steps, HEADS, size), bias_axes="hs")(encoded)
    scores = ops.einsum("bhs,bths->bht", query, keys) / size**0.5
    weights = layers.Dropout(dropout)(layers.Softmax(name="attention")(scores))
    found = ops.einsum("bt,bts->bs", ops.mean(weights, axis=1), layers.Dense(size)(encoded))
    return layers.Dense(units)(found)
