"""The baseline that cannot see the order of words."""

import jax.numpy as jnp
from flax import linen as nn

from seqjax.array_types import Array
from seqjax.losses import length_mask


class BagOfWords(nn.Module):
    """Classifies a text by the mean of its embedded tokens.

    logits = W (1/length · Σₜ E[xₜ]) + b

    Attributes:
        num_classes: Number of logits.
        vocab_size: Number of tokens.
        embedding_size: Width of the embedding.
        dropout_rate: Rate of the dropout on the mean.

    References:
        Joulin, Grave, Bojanowski, Mikolov (2017), Bag of tricks for efficient text
        classification.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = BagOfWords(num_classes=2, vocab_size=9, embedding_size=4)
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))
        >>> there = model.apply(variables, jnp.array([[1, 2, 3]]))[1]
        >>> back = model.apply(variables, jnp.array([[3, 2, 1]]))[1]
        >>> bool(jnp.allclose(there, back))
        True
    """

    num_classes: int
    vocab_size: int
    embedding_size: int
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(
        self,
        xs: Array,
        lengths: Array | None = None,
        *,
        probes: None = None,
        deterministic: bool = True,
    ) -> tuple[None, Array]:
        """Classifies texts.

        Args:
            xs: Tokens, `[*batch, time]`, integers.
            lengths: Real steps, `[*batch]`; all if None.
            probes: None: there is no carry to probe.
            deterministic: Turns off dropout; else pass an rng "dropout".

        Returns:
            None in the place of a carry, and logits `[*batch, classes]`.
        """
        embedded = nn.Embed(self.vocab_size, self.embedding_size, name="embedding")(xs)
        if lengths is None:
            mean = jnp.mean(embedded, axis=-2)
        else:
            real = length_mask(lengths, xs.shape[-1])[..., None]
            count = jnp.maximum(lengths, 1).astype(embedded.dtype)[..., None]
            mean = jnp.sum(real * embedded, axis=-2) / count
        mean = nn.Dropout(self.dropout_rate, deterministic=deterministic)(mean)
        return None, nn.Dense(self.num_classes, name="readout")(mean)
