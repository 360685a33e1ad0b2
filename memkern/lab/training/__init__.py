"""Training of encoders: recipes, the registry of methods, checkpoints, privacy."""
