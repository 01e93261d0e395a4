"""What studies share: their results, training runs, curves and systems."""
