"""Trains and evaluates the HQ token of HQ-SAM from shards that hqdata made."""
