"""Imports that wait until what they name is used, so that help pages and single names come without all the rest."""

from __future__ import annotations

import builtins
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType
from typing import Any, ParamSpec, TypeVar

from ..errors import VeriflowError
from .siblings import refuse_hidden_packages

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LOCK = threading.RLock()
"""Held while `__import__` is another one."""


class LazyImports:
    """The imports of one module that wait; to people and type checkers they look like any others.

    ::

        with LazyImports(__name__) as imports:
            from .flow import Flow

    `Flow` is imported when somebody asks the module for it, ``module.Flow`` or ``from module import Flow``, and is in
    ``dir(module)`` before. Inside the module it is there once a function under ``@imports.on_call`` was called. The
    packages ``beside`` this one are not imported while a file of the user hides one of them. Where a package is missing
    that comes with an ``extra`` of veriflow alone, a VeriflowError says how to get it.
    """

    def __init__(self, module: str, beside: Sequence[str] = (), extra: str | None = None) -> None:
        self._module = sys.modules[module]
        self._beside = beside
        self._extra = extra
        self._pending: dict[str, _Pending] = {}

    def __enter__(self) -> LazyImports:
        _LOCK.acquire()
        self._import = builtins.__import__
        builtins.__import__ = self._wait  # type: ignore[assignment]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        builtins.__import__ = self._import
        _LOCK.release()
        names = vars(self._module)
        self._pending = {name: value for name, value in names.items() if isinstance(value, _Pending)}
        for name in self._pending:
            del names[name]
        names["_lazy_imports"] = self
        self._module.__class__ = _LazyModule

    def on_call(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """The function, which imports what the module waits for before it runs."""

        @functools.wraps(function)
        def loaded(*args: _P.args, **options: _P.kwargs) -> _R:
            for name in self._pending:
                self.value(name)
            return function(*args, **options)

        return loaded

    @property
    def names(self) -> list[str]:
        """What the imports name."""
        return list(self._pending)

    def value(self, name: str) -> object:
        """What a name stands for, imported now if it was not before."""
        names = vars(self._module)
        if name not in names:
            names[name] = self._pending[name].value()
        return names[name]

    def _wait(self, name: str, names: dict[str, Any] | None = None, *rest: Any) -> Any:  # noqa: ANN401 - any module
        if names is not vars(self._module):  # another thread's
            return self._import(name, names, *rest)
        return _Pending(functools.partial(self._load, name, names, *rest))

    def _load(self, name: str, *rest: Any) -> Any:  # noqa: ANN401 - any module
        if name in self._beside:
            refuse_hidden_packages(*self._beside)
        try:
            return self._import(name, *rest)
        except ModuleNotFoundError as error:
            if self._extra is None:
                raise
            raise VeriflowError(
                f"expected the package {str(error.name).partition('.')[0]!r}, which this needs; got none "
                f"(pip install 'veriflow-toolkit[{self._extra}]')"
            ) from error


class _Pending:
    """A module, or what it has under a name, that is not imported yet."""

    def __init__(self, load: Callable[[], Any], name: str | None = None) -> None:
        self.__load, self.__name = load, name

    def __getattr__(self, name: str) -> _Pending:
        return _Pending(self.__load, name)

    def value(self) -> object:
        module = self.__load()
        return module if self.__name is None else getattr(module, self.__name)


class _LazyModule(ModuleType):
    """A module with imports that wait."""

    _lazy_imports: LazyImports

    def __getattr__(self, name: str) -> object:
        if name not in self._lazy_imports.names:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        return self._lazy_imports.value(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._lazy_imports.names})
