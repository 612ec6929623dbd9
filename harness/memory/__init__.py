"""What a candidate allocates, and what it never gives back."""
