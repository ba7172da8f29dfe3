"""Names of what lies in a repository beside the files of the data set itself."""

from __future__ import annotations

CARD_FILE = "README.md"
CROISSANT_FILE = "croissant.json"
CERTIFICATE_FILE = "overlap.json"
RECIPE_FILE = "recipe.yaml"
EXAMPLES = "examples"
"""Folder of example pictures."""

REPO_TYPE = "dataset"
"""What the Hub calls such a repository."""

MAIN = "main"
"""Its main branch."""
