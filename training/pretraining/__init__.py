"""Pretraining of the small SAM that ships with the package: scenes, coarse masks, steps."""
