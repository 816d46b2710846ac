import keras
import numpy as np
import pytest

from ml_assets.ml.muon import FilterMuon, orthogonal


@pytest.mark.parametrize("shape", [(216, 64), (64, 216), (2304, 256)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = np.linalg.svd(np.asarray(orthogonal(keras.ops.convert_to_tensor(matrix))))[1]
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_filters_keep_the_norm_of_orthonormal_columns() -> None:
    kernel = keras.Variable(np.random.default_rng(0).normal(size=(3, 3, 8, 16)).astype(np.float32))
    optimizer = FilterMuon(1e-6)
    optimizer.apply([keras.ops.ones_like(kernel)], [kernel])
    assert np.linalg.norm(np.asarray(kernel)) == pytest.approx(4.0, rel=1e-3)


def test_other_weights_follow_nesterov() -> None:
    vector, matrix = (keras.Variable(np.zeros(shape, np.float32)) for shape in ((3,), (3, 2)))
    optimizer = FilterMuon(0.1, dense_ratio=2.0, vector_ratio=0.5, other_momentum=0.9)
    for _ in range(2):
        optimizer.apply(
            [keras.ops.ones_like(vector), keras.ops.ones_like(matrix)], [vector, matrix]
        )
    steps = 1 + 0.9 + (1 + 0.9 * 1.9)
    np.testing.assert_allclose(np.asarray(vector), -0.1 * 0.5 * steps, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(matrix), -0.1 * 2.0 * steps, rtol=1e-5)


def test_it_is_saved_with_its_arguments() -> None:
    optimizer = FilterMuon(0.1, momentum=0.5, weight_decay=0.01)
    again = FilterMuon.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
