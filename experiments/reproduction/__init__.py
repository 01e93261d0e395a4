"""Studies run against the bands of their flagfiles."""
