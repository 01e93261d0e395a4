"""Measuring how gradients travel through time, right at any length."""

from seqjax.gradients.adjoint import (
    CarryGradients,
    carry_gradients,
    log_gradient_norms,
)
from seqjax.gradients.decay import DecayRate, decay_rate
from seqjax.gradients.direction import (
    cosine_similarity,
    effective_rank,
    participation_ratio,
)
from seqjax.gradients.element_wise import diagonal_rtrl_gradient
from seqjax.gradients.estimators import (
    BiasAndVariance,
    bias_and_variance,
    bptt_gradient,
    truncated_gradient,
)
from seqjax.gradients.gates import (
    GateTimescales,
    PathSplit,
    gate_timescales,
    path_split,
)
from seqjax.gradients.influence import rtrl_gradient, snap1_gradient, uoro_gradient
from seqjax.gradients.jacobian import (
    carry_jacobians,
    log_condition_number,
    log_singular_values,
    one_step_bound,
)
from seqjax.gradients.lag import (
    GradientShares,
    TruncationError,
    align_lags,
    gradient_shares,
    log_lag_norms,
    truncation_error,
)
from seqjax.gradients.lyapunov import (
    LyapunovExponents,
    entropy_rate,
    finite_time_exponents,
    kaplan_yorke_dimension,
    lyapunov_exponents,
    mean_log_determinant,
)
from seqjax.gradients.remedies import (
    ClipEffect,
    clip_effect,
    flossing_penalty,
    limit_spectral_norm,
    omega_penalty,
    orthogonal_penalty,
)
from seqjax.gradients.scaled import LogNorms
from seqjax.gradients.tangent import log_tangent_norms
from seqjax.gradients.theory import (
    CurseOfMemory,
    MeanField,
    critical_gain,
    curse_of_memory,
    diagonal_log_norms,
    mean_field,
    newman_spectrum,
)

__all__ = [
    "BiasAndVariance",
    "CarryGradients",
    "ClipEffect",
    "CurseOfMemory",
    "DecayRate",
    "GateTimescales",
    "GradientShares",
    "LogNorms",
    "LyapunovExponents",
    "MeanField",
    "PathSplit",
    "TruncationError",
    "align_lags",
    "bias_and_variance",
    "bptt_gradient",
    "carry_gradients",
    "carry_jacobians",
    "clip_effect",
    "cosine_similarity",
    "critical_gain",
    "curse_of_memory",
    "decay_rate",
    "diagonal_log_norms",
    "diagonal_rtrl_gradient",
    "effective_rank",
    "entropy_rate",
    "finite_time_exponents",
    "flossing_penalty",
    "gate_timescales",
    "gradient_shares",
    "kaplan_yorke_dimension",
    "limit_spectral_norm",
    "log_condition_number",
    "log_gradient_norms",
    "log_lag_norms",
    "log_singular_values",
    "log_tangent_norms",
    "lyapunov_exponents",
    "mean_field",
    "mean_log_determinant",
    "newman_spectrum",
    "omega_penalty",
    "one_step_bound",
    "orthogonal_penalty",
    "participation_ratio",
    "path_split",
    "rtrl_gradient",
    "snap1_gradient",
    "truncated_gradient",
    "truncation_error",
    "uoro_gradient",
]
