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


def test_loss_and_accuracy_go_over_the_logits_together():
    def both(logits, targets):
        return losses.cross_entropy(logits, targets), losses.is_best(logits, targets)

    logits, targets = jnp.zeros((4, 300)), jnp.zeros(4, jnp.int32)
    program = jax.jit(both).lower(logits, targets).compile().as_text()
    # The highest other logit, and the sum of exponentials.
    assert program.count(" reduce(") == 2


def test_cross_entropy_of_what_is_not_finite():
    masked = jnp.array([[0.0, -jnp.inf, -jnp.inf], [-jnp.inf, 1.0, 1.0]])
    found = losses.cross_entropy(masked, jnp.array([0, 1]))
    np.testing.assert_allclose(found, [0.0, jnp.log(2.0)], rtol=1e-6)
    broken = jnp.array([[jnp.nan, 0.0], [jnp.inf, 0.0]])
    assert not jnp.isfinite(losses.cross_entropy(broken, jnp.array([1, 1]))).any()
    assert losses.is_best(broken, jnp.array([1, 1])).tolist() == [False, False]
