"""A training run: its options, its directory, its loop and its programs."""
