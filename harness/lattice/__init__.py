"""The lattice of a trained model: what it looks like, and whether it helps."""
