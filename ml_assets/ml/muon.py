"""The optimizer of the fast residual network. Loaded when a step runs.

Source: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024).
Keras's own `Muon` leaves the filters of convolutions to AdamW; this one is for them.
"""

from typing import Any

import keras
from keras import ops

_ITERATIONS = 3
_A, _B, _C = 3.4445, -4.7750, 2.0315


class FilterMuon(keras.optimizers.Optimizer):
    """Muon for the filters of convolutions, Nesterov's momentum for all other weights.

    The filters of a layer are one matrix, whose step is the orthogonal matrix nearest to its
    momentum; before the step, it is brought to the norm that orthonormal columns have.

    Args:
        learning_rate: Of the filters, `(height, width, inputs, outputs)`.
        momentum: Of the filters.
        dense_ratio: Learning rate of matrices, as a multiple of that of the filters. Theirs alone
            does not depend on the size of gradients, so this one goes with the loss's scale.
        vector_ratio: The same for biases (matrices of one row among them) and normalizations.
        other_momentum: Of all that are no filters.
        weight_decay: Decoupled.
        name: Of the optimizer.
        **kwargs: As for any optimizer of Keras.
    """

    def __init__(
        self,
        learning_rate: Any = 0.24,
        momentum: float = 0.6,
        dense_ratio: float = 1.0,
        vector_ratio: float = 1.0,
        other_momentum: float = 0.85,
        weight_decay: float | None = None,
        name: str = "filter_muon",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.momentum = momentum
        self.dense_ratio = dense_ratio
        self.vector_ratio = vector_ratio
        self.other_momentum = other_momentum

    def build(self, variables: list[Any]) -> None:
        """Make room for the momentum of each variable."""
        if self.built:
            return
        super().build(variables)
        self._momenta = [
            self.add_variable_from_reference(reference_variable=variable, name="momentum")
            for variable in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable."""
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        kept = self._momenta[self._get_variable_index(variable)]
        filters = len(variable.shape) == 4
        share = self.momentum if filters else self.other_momentum
        self.assign(kept, share * kept + gradient)
        step = gradient + share * kept
        if filters:
            outputs = variable.shape[-1]
            flat = ops.reshape(step, (-1, outputs))
            norm = ops.sqrt(ops.sum(ops.square(variable)))
            scale = outputs**0.5 / (norm + 1e-7)
            step = ops.reshape(orthogonal(flat), variable.shape)
            self.assign(variable, variable * scale - rate * step)
        else:
            vector = 1 in variable.shape[:-1] or len(variable.shape) == 1
            ratio = self.vector_ratio if vector else self.dense_ratio
            self.assign_sub(variable, rate * ratio * step)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return super().get_config() | {
            "momentum": self.momentum,
            "dense_ratio": self.dense_ratio,
            "vector_ratio": self.vector_ratio,
            "other_momentum": self.other_momentum,
        }


def orthogonal(matrix: Any) -> Any:
    """About the nearest orthogonal matrix `(n, m)`, by Newton-Schulz iterations of degree five."""
    rows, columns = matrix.shape
    found = matrix if rows >= columns else ops.transpose(matrix)
    found = found / (ops.sqrt(ops.sum(ops.square(found))) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = ops.matmul(ops.transpose(found), found)
        found = _A * found + ops.matmul(found, _B * gram + _C * ops.matmul(gram, gram))
    return found if rows >= columns else ops.transpose(found)
