"""Sphinx: the pages of this folder and the docstrings, as one site (`make docs`)."""

from __future__ import annotations

import memkern
from memkern import errors

project = "memkern"
author = "the memkern developers"
release = memkern.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "memkern"
exclude_patterns = ["_build"]
# Links to files outside of this folder (sources, results) are for readers of the repository.
suppress_warnings = ["myst.xref_missing"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# The notebooks are kept without results and run here; an error in one fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Every name in a signature or docstring must lead somewhere (-n), but for these.
nitpick_ignore_regex = [
    # Documented by other projects, whose lists of names need a network.
    ("py:class", r"(torch|numpy|pyarrow|pathlib|collections\.abc)\..*"),
    # Protocols of loggers of other projects, which docs/monitor.md names.
    ("py:class", r"memkern\.audit\.monitor\.loggers\..*"),
]
nitpick_ignore = [
    ("py:class", "Tensor"),  # torch's, where a module names it without torch
    ("py:class", "Array"),  # torch.Tensor | numpy.ndarray: what comes back is of the caller's kind
    ("py:class", "memkern.checks.values.SupportsDLPack"),  # a protocol: any array with __dlpack__
    ("py:class", "Json"),  # what a JSON file can hold
    ("py:class", "Console"),  # rich's, which is optional
    ("py:class", "Figure"),  # matplotlib's, which is optional
    ("py:class", "memkern.audit.run_folder.significance.Significance"),  # its fields are in run-folder.md
    ("py:class", "memkern.audit.data.dataset.Dataset"),  # a protocol: what torch's and Hugging Face's data sets have
    ("py:class", "memkern.audit.data.decode.Pixels"),
    ("py:class", "memkern.audit.taps.batch_layout.BatchLayout"),  # where a tensor has its images; for taps alone
    ("py:class", "memkern.metrics.base.M"),  # the type of a streaming metric itself
    # Docstrings name a kind of error without its module; api/records.md has all kinds.
    *(("py:exc", name) for name in vars(errors) if name.endswith("Error")),
]
