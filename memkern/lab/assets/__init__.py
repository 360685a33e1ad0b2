"""The encoder pair that ships with memkern; `memkern.lab.pairs` makes and loads it."""
