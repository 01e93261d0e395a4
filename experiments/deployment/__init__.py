"""Trained models outside of their runs: exported, compressed, and asked."""
