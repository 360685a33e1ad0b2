"""The images of an audit: sources, labels, groups, and a look at every image before the work."""
