"""The ops as Triton kernels, for NVIDIA and AMD GPUs: one file per op, imported only when the backend is chosen.

Imports nothing of memkern outside this folder. Rules that every kernel here keeps, so that it can be proven without a
GPU and gives the same bits on every run:

* Two launches where work is split: partial results, then one program per result that adds them in a fixed order. No
  atomics, no "last block done".
* Offsets are int64; masked loads say ``other=``; no promises to the compiler (``tl.multiple_of``) that a caller could
  break; nothing is loaded through a pointer that the same kernel stores to.
* Splits depend on the shape alone, never on the device or the number of points, so a point's result does neither.
"""
