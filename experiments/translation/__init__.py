"""Translating with a trained model, and what translations are compared with."""
