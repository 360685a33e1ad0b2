"""Ops, one file each: schema and fake, autograd, backend table, public function.

Torch sees the ops as ``torch.ops.memkern.*``; they are registered from Python, so one build serves every torch version.
"""

import torch

# Holding the library keeps the registrations alive; FRAGMENT lets every op file add its own.
LIBRARY = torch.library.Library("memkern", "FRAGMENT")
