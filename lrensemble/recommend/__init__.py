"""Which learning-rate policies to train next: the policy database, verification, and recommendation."""
