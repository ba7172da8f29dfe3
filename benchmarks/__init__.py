"""Where the README's figures come from; each prints a ratio against a peer of the same run."""
