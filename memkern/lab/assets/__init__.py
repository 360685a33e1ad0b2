"""The encoder pair that ships with memkern; `memkern.lab.encoder_pairs` makes and loads it."""
