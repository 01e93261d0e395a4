"""What a finished run shows: its curves and its page."""
