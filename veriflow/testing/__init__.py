"""The test-kit: the laws that classes of one's own must obey, as functions that raise AssertionError with a sentence.

The project's own tests call the same functions. The pages in ``docs/extending`` use them.
"""

from ..runtime.lazy_imports import LazyImports

with LazyImports(__name__, beside=("exporters", "verify")):
    from exporters.testing import check_operator
    from verify.testing.engines import check_engine
    from verify.testing.tools import check_tool

    from .bases import BASE_LAWS, check_base
    from .bijections import BIJECTION_LAWS, check_bijection
    from .bounds import check_bound
    from .norm_laws import NORM_LAWS, check_norm_law
    from .properties import check_property

__all__ = [
    "BASE_LAWS",
    "BIJECTION_LAWS",
    "NORM_LAWS",
    "check_base",
    "check_bijection",
    "check_bound",
    "check_engine",
    "check_norm_law",
    "check_operator",
    "check_property",
    "check_tool",
]
