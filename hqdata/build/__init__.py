"""From a recipe and the sources to shards: the plan, the work on one shard, the engine, the whole
run.
"""
