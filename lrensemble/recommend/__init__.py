"""Which learning-rate policies to train next."""
