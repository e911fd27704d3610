"""Losses as sums with weights; means are taken once, over the whole global batch."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, Num

SMALL = 1e-4  # of the original's per-sample normalisation


@jax.custom_vjp
def cross_entropy(
    logits: Float[Array, "*any C"], targets: Int[Array, "*any"]
) -> Float[Array, "*any"]:
    """−log softmax(logits)[target]."""
    return _cross_entropy(logits, targets)[0]


def _cross_entropy(
    logits: Float[Array, "*any C"], targets: Int[Array, "*any"]
) -> tuple[Float[Array, "*any"], tuple[Array, Array, Array]]:
    own, best_other = _own(logits, targets), _best_other(logits, targets)
    best = jnp.maximum(own, best_other)
    total = best + jnp.log(jnp.exp(logits - best[..., None]).sum(-1))
    return total - own, (logits, targets, total)


def _own(logits: Float[Array, "*any C"], targets: Int[Array, "*any"]) -> Float[Array, "*any"]:
    """The target's logit."""
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def _best_other(
    logits: Float[Array, "*any C"], targets: Int[Array, "*any"]
) -> Float[Array, "*any"]:
    """The highest logit that is not the target's.

    Loss and accuracy both read it: XLA goes over the logits once for the two.
    """
    classes = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    return jnp.where(classes == targets[..., None], -jnp.inf, logits).max(-1)


def _cross_entropy_gradient(
    kept: tuple[Array, Array, Array], gradient: Float[Array, "*any"]
) -> tuple[Float[Array, "*any C"], None]:
    """(softmax − one-hot) · gradient in one pass; JAX would scatter the one-hot into zeros."""
    logits, targets, total = kept
    classes = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    softmax = jnp.exp(logits - total[..., None])
    return (softmax - (classes == targets[..., None])) * gradient[..., None], None


cross_entropy.defvjp(_cross_entropy, _cross_entropy_gradient)


def is_best(logits: Float[Array, "*any C"], targets: Int[Array, "*any"]) -> Bool[Array, "*any"]:
    """Whether the target's logit is above all others (a tie is not)."""
    return _own(logits, targets) > _best_other(logits, targets)


def binary_cross_entropy(
    logits: Float[Array, "*any"], targets: Float[Array, "*any"]
) -> Float[Array, "*any"]:
    """−y log σ(x) − (1 − y) log σ(−x) = softplus(x) − y·x, elementwise; y may be soft."""
    return jax.nn.softplus(logits) - targets * logits


def soft_cross_entropy(
    logits: Float[Array, "*any C"],
    class_ids: Int[Array, "*any k"],
    probs: Float[Array, "*any k"],
    rest: Float[Array, "*any"],
) -> Float[Array, "*any"]:
    """−Σ y log softmax(logits) where y is stored as its top k classes and one lumped rest.

    Args:
      logits: [..., C].
      class_ids: int [..., k]; probs: [..., k]; rest: [...] probability of all other classes.

    Returns:
      [...] cross-entropy between the k + 1 lumped classes; exact for k = C.
    """
    total = jax.nn.logsumexp(logits, axis=-1)
    stored = jnp.take_along_axis(logits, class_ids, axis=-1)
    loss = jnp.sum(probs * (total[..., None] - stored), axis=-1)
    if class_ids.shape[-1] == logits.shape[-1]:
        return loss
    # Row by row: `put_along_axis` would bring the rows of all devices together.
    remove = jnp.vectorize(lambda x, ids: x.at[ids].set(-jnp.inf), signature="(c),(k)->(c)")
    others = remove(logits, class_ids)
    return loss + rest * (total - jax.nn.logsumexp(others, axis=-1))


def soft_entropy(probs: Float[Array, "*any k"], rest: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Entropy of a stored distribution: cross-entropy − entropy = KL divergence.

    Args: probs: [..., k]; rest: [...]. Returns: [...].
    """

    def terms(p: Array) -> Array:
        return jnp.where(p > 0, -p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0)

    return terms(probs).sum(-1) + terms(rest)


def numerator(
    values: Float[Array, "N G"], weights: Float[Array, "N G"], normalize: str
) -> Float[Array, ""]:
    """Σ of weighted values, divided by `denominator` (of the whole global batch) later.

    Args:
      values: [N, G]; weights: [N, G], 0 where there is no target.
      normalize: "mean": over all targets; "per_sample": mean over examples of each one's mean,
        with the original's small constants (VL-BERT, LOSS_NORM_IN_BATCH_FIRST).
    """
    values = jnp.where(weights > 0, values * weights, 0.0)
    if normalize == "mean":
        return values.sum()
    return (values.sum(-1) / (weights.sum(-1) + SMALL)).sum()


def denominator(weights: Float[Array, "N G"], normalize: str) -> Float[Array, ""]:
    """What `numerator` is divided by: a function of the global batch alone, not of the model."""
    if normalize == "mean":
        return weights.sum()
    return (weights.sum(-1) > 0).sum() + SMALL


def mean(total: Num[Array, ""], weight: Num[Array, ""]) -> Float[Array, ""]:
    """total / weight, and 0 (never NaN) where nothing has a target."""
    return total / jnp.maximum(weight, 1e-9)


def counts(
    index: Int[Array, "*any"], weights: Float[Array, "*any"], size: int
) -> Float[Array, " size"]:
    """How much weight falls on each of `size` indices."""
    return jnp.zeros(size).at[index.ravel()].add(weights.ravel())
