"""Pretraining of the small SAM that comes with the package: scenes, coarse masks, prompts, steps."""
