"""The error tree. Each error's text is one sentence: what was expected and what came.

::

    VeriflowError (a ValueError)
    ├── DataError       a table or array: column, cell, shape, dtype, NaN
    ├── ModelError      a flow, base or conditioner that cannot be built or does not fit
    ├── StorageError    a model or checkpoint file: foreign, truncated, altered, not writable
    ├── TrainingError   a loss that is not a number, an option that makes no sense
    ├── RegionError     a mass, radius, density threshold or box
    ├── GraphError      a network that is not affine maps and ReLUs, or whose sizes do not fit
    ├── PropertyError   a property's text, or an output that is not there
    ├── QueryError      a graph, a region and a property that do not belong together
    └── SolverError     an engine that is missing, unknown, or cannot take the query
        └── DisagreementError   two solvers that answer a query differently
"""


class VeriflowError(ValueError):
    """Any input that veriflow refuses."""


class DataError(VeriflowError):
    """A table or array that cannot be used."""


class ModelError(VeriflowError):
    """A flow, base or conditioner that cannot be built or does not fit."""


class StorageError(VeriflowError):
    """A file that cannot be read as what it should be, or cannot be written."""


class TrainingError(VeriflowError):
    """Training that cannot start or go on."""


class RegionError(VeriflowError):
    """A mass, radius, density threshold or box that makes no sense."""


class GraphError(VeriflowError):
    """A network that is not made of affine maps and ReLUs, or whose sizes do not fit."""


class PropertyError(VeriflowError):
    """A property that cannot be read, or that names an output which is not there."""


class QueryError(VeriflowError):
    """A graph, a region and a property that do not belong together."""


class SolverError(VeriflowError):
    """An engine that is missing, unknown, or cannot take the query."""


class DisagreementError(SolverError):
    """One solver says that a property holds where another has a violation that replays."""
