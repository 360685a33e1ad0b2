"""Errors of memkern: what the caller can mend, under one base class.

Every kind is also the builtin error that Python's users expect (`except ValueError` keeps working). The command line
turns a `MemkernError` and an `OSError` into one line; any other exception is a bug of memkern's and shown as one.
"""

from __future__ import annotations


class MemkernError(Exception):
    """Something that the caller can mend; the message names it, what was expected, what came, and the fix.

    Example:
        >>> import torch, memkern
        >>> try:
        ...     memkern.unitmem(torch.ones(1, 3))
        ... except memkern.MemkernError as error:
        ...     print(error)
        Expected `activations` to hold at least 2 points, got 1: there is nothing to compare with
    """


class ArgumentValueError(MemkernError, ValueError):
    """An argument of the right kind with a value or shape that does not fit."""


class ArgumentTypeError(MemkernError, TypeError):
    """An argument of the wrong kind or dtype."""


class BackendError(MemkernError, RuntimeError):
    """A backend that cannot run here, or tensors on different devices."""


class MissingPackageError(MemkernError, ModuleNotFoundError):
    """An optional package that is not installed; the message says which extra brings it."""


class MissingFileError(MemkernError, FileNotFoundError):
    """A file or folder that is not there."""


class DataError(MemkernError, ValueError):
    """Images, labels, ids or candidates that do not fit."""


class EncoderError(MemkernError, ValueError):
    """An encoder that cannot be built, or does not take what it is given."""


class WeightsError(MemkernError, ValueError):
    """Weights that do not fit the encoder."""


class PlanError(MemkernError, ValueError):
    """A RUN folder that holds another audit, or parts that do not belong together."""


class LayerError(MemkernError, RuntimeError):
    """A layer that does not run as it did when it was looked up: not at all, twice, or on other input."""


class NanError(MemkernError, RuntimeError):
    """An encoder that gives NaN."""


class ProcessError(MemkernError, RuntimeError):
    """Failure or absence of another process of a distributed audit."""


class RunFolderError(MemkernError, RuntimeError):
    """A RUN folder that is incomplete, damaged, or written by a newer memkern."""


class CompareError(MemkernError, ValueError):
    """Two audits that cannot be compared."""


class TrainingError(MemkernError, RuntimeError):
    """A training that cannot start, go on, or be read again."""
