"""Builds HQSeg-44K, 44,320 finely masked images from six public data sets, as verified WebDataset
shards.
"""

__version__ = "0.1.0"
