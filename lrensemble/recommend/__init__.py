"""What to train: the policy database, verification, and recommendation."""
