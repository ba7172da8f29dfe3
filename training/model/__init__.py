"""SAM as its makers ship it, and the HQ decoder beside it."""
