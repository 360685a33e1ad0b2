"""Reading the layers of a model while it runs."""
