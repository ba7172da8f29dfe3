"""Where the README's figures come from: each prints a ratio against a peer measured in the same run."""
