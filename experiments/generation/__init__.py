"""Text and music that a trained model makes up."""
