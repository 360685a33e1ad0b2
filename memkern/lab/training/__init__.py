"""Training of encoders: recipes, methods, checkpoints."""
