"""What to do with what was found: prune, replace, fine-tune."""
