"""What gradient_norms, lyapunov and phase measure, draw and write."""
