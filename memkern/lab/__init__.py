"""The laboratory: small encoders trained on real images, to see memorization happen. Needs `memkern[lab]`."""
