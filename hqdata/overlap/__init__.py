"""The proof that no training picture overlaps an evaluation set, and its evidence."""
