"""From the logits of a step to sequences: sampling, and the search for likely ones.

Most functions take a pure `step(carry, token) -> (carry, logits)` of one sequence,
which `language_step` makes of a model; `best_path` and `prefix_beam_search` take the
logits of all frames. `jax.vmap` makes batches of them.
"""

from seqjax.decoding.beams import Beams, beam_search
from seqjax.decoding.generation import Generated, generate, greedy_search, restrict
from seqjax.decoding.language import language_step
from seqjax.decoding.sampling import keep_likely, sample_bernoulli, sample_logits
from seqjax.decoding.transcription import Transcript, best_path, prefix_beam_search
from seqjax.decoding.translation import translation_step

__all__ = [
    "Beams",
    "Generated",
    "Transcript",
    "beam_search",
    "best_path",
    "generate",
    "greedy_search",
    "keep_likely",
    "language_step",
    "prefix_beam_search",
    "restrict",
    "sample_bernoulli",
    "sample_logits",
    "translation_step",
]
