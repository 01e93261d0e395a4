"""Launchers and everything that touches flags, files, clocks and plots."""
