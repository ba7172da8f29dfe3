"""Shards on disk: writing them, reading them, the manifest beside them, and checking all of it."""
