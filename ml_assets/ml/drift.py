"""How far recent values have drifted from earlier ones."""

import numpy as np

_LEAST_SHARE = 1e-4


def population_stability_index(
    reference: np.ndarray, current: np.ndarray, *, bins: int = 10
) -> float:
    """The population stability index (PSI) over the reference's quantile bins.

    An edge of them is a bin of its own: it may be a value that many rows share, such as zero.
    Below 0.1 the two are usually called alike, above 0.25 different. It is symmetric: the sum of
    (p - q) ln(p / q) over the bins.

    Args:
        reference: `(n,)` float; NaN is left out.
        current: `(m,)` float; NaN is left out.
        bins: Number of bins with equal shares of the reference.

    Returns:
        The index; NaN if either has no values.

    >>> values = np.arange(1000.0)
    >>> population_stability_index(values, values)
    0.0
    >>> population_stability_index(values, values + 500) > 0.25
    True
    """
    reference, current = (values[np.isfinite(values)] for values in (reference, current))
    if not (len(reference) and len(current)):
        return float("nan")
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    shares = [
        np.bincount(
            np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right"),
            minlength=2 * len(edges) + 1,
        )
        / len(values)
        for values in (reference, current)
    ]
    p, q = (np.maximum(share, _LEAST_SHARE) for share in shares)
    return float(np.sum((p - q) * np.log(p / q)))
