"""The experiments of the two papers, one file each; `memkern.lab.experiments._catalogue` lists them all."""
