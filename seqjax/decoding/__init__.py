"""From the logits of a step to sequences: sampling, and the search for likely ones.

All functions take a pure `step(carry, token) -> (carry, logits)` of one sequence, which
`language_step` makes of a model; `jax.vmap` makes batches of them.
"""

from seqjax.decoding.beams import Beams, beam_search
from seqjax.decoding.generation import Generated, generate, greedy_search, restrict
from seqjax.decoding.language import language_step
from seqjax.decoding.sampling import keep_likely, sample_bernoulli, sample_logits
from seqjax.decoding.translation import translation_step

__all__ = [
    "Beams",
    "Generated",
    "beam_search",
    "generate",
    "greedy_search",
    "keep_likely",
    "language_step",
    "restrict",
    "sample_bernoulli",
    "sample_logits",
    "translation_step",
]
