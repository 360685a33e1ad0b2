"""The experiments of the two papers, one file each; `memkern.lab.catalogue` lists them all."""
