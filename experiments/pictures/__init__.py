"""Pictures of gradient flow: from NumPy arrays to figures, a file per family.

Nothing here computes or reads anything. Save a figure with `style.save`.
"""
