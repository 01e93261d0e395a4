"""Data sets that lie in ordinary packages: catalogue, fetching and reading."""
