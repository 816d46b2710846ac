"""Columns brought to mean 0 and deviation 1, by what the training rows have shown.

Fitting is separate from applying: what was fitted on training rows is kept with the model.
"""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

# Below this share of the column's size, a deviation is what float32 leaves of a constant.
_ROUNDING = 1e-6
_BLOCK = 2048
"""Rows that are scaled at once: so many stay in the cache."""


@dataclass(frozen=True)
class StandardScaler:
    """Mean and deviation of each column.

    Attributes:
        mean: k floats.
        scale: k floats above zero; 1 for a column that was constant.
    """

    mean: list[float]
    scale: list[float]

    @classmethod
    def fit(cls, rows: np.ndarray) -> "StandardScaler":
        """The scaler of rows `(n, k)`; what is not finite does not count.

        >>> StandardScaler.fit(np.array([[1.0, 7.0, np.nan], [3.0, 7.0, np.nan]]))
        StandardScaler(mean=[2.0, 7.0, 0.0], scale=[1.0, 1.0, 1.0])
        """
        mean, scale = [], []
        for column in rows.T:
            known = column[np.isfinite(column)].astype(np.float64)
            mean.append(float(known.mean()) if len(known) else 0.0)
            deviation = float(known.std()) if len(known) else 0.0
            scale.append(deviation if deviation > _ROUNDING * abs(mean[-1]) else 1.0)
        return cls(mean, scale)

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """Rows `(n, k)` float32, scaled in their own precision; not finite ones become 0, the mean.

        >>> StandardScaler([2.0], [0.5]).transform(np.array([[3.0], [np.nan]])).tolist()
        [[2.0], [0.0]]
        """
        found = np.empty(rows.shape, np.float32)
        # Repeated for each row of a block: NumPy is slow where rows are short.
        size = min(_BLOCK, len(rows))
        kind = np.result_type(rows, np.float32)
        mean, scale = (
            np.tile(np.array(values, kind), (size, 1)) for values in (self.mean, self.scale)
        )
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            scaled = (block - mean[: len(block)]) / scale[: len(block)]
            scaled[~np.isfinite(scaled)] = 0
            found[start : start + _BLOCK] = scaled
        return found

    def inverse(self, rows: np.ndarray) -> np.ndarray:
        """What `transform` was given, as float64, where it was finite.

        >>> StandardScaler([2.0], [0.5]).inverse(np.array([[2.0], [0.0]])).tolist()
        [[3.0], [2.0]]
        """
        return rows * np.array(self.scale) + np.array(self.mean)

    def to_json(self) -> str:
        """The scaler as text.

        >>> StandardScaler.from_json(StandardScaler([0.1], [3.0]).to_json())
        StandardScaler(mean=[0.1], scale=[3.0])
        """
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "StandardScaler":
        """The scaler that `to_json` wrote."""
        return cls(**json.loads(text))
