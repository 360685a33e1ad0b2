"""Sphinx: the pages of this folder and the docstrings, as one site (`make docs`)."""

from __future__ import annotations

import memkern

project = "memkern"
author = "the memkern developers"
release = memkern.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "memkern"
exclude_patterns = ["_build"]
# Links to files outside of this folder (sources, results) are for readers of the repository.
suppress_warnings = ["myst.xref_missing"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
