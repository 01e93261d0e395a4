"""Measuring how gradients travel through time, right at any length."""

from seqjax.gradients.adjoint import LogNorms, log_gradient_norms
from seqjax.gradients.decay import DecayRate, decay_rate

__all__ = ["DecayRate", "LogNorms", "decay_rate", "log_gradient_norms"]
