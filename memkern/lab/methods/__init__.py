"""Self-supervised training methods, one file each."""
