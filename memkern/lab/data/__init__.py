"""Image sets of the lab and their splits."""
