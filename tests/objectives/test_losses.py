import jax
import jax.numpy as jnp
import numpy as np

from objectives import losses


def test_cross_entropy_and_its_gradient_are_those_of_log_softmax():
    logits = 3 * jax.random.normal(jax.random.key(0), (2, 5, 7))
    targets = jnp.array([[0, 6, 3, 3, 1], [2, 2, 5, 0, 4]])
    weights = jnp.arange(10.0).reshape(2, 5)

    def plain(logits):
        one_hot = jax.nn.one_hot(targets, 7)
        return -(jax.nn.log_softmax(logits) * one_hot).sum(-1)

    def total(values):
        return lambda logits: (values(logits) * weights).sum()

    def ours(logits):
        return losses.cross_entropy(logits, targets)

    np.testing.assert_allclose(ours(logits), plain(logits), rtol=1e-5, atol=1e-6)
    found, expected = (jax.grad(total(f))(logits) for f in (ours, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert jax.grad(total(ours))(logits.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_best_is_above_all_others():
    logits = jnp.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [3.0, 3.0, 2.0], [0.0, 0.0, 0.0]])
    found = losses.is_best(logits, jnp.array([1, 2, 0, 0]))
    assert found.tolist() == [True, False, False, False]
