"""`njit`, `inner`: loops that numba compiles when they are first called, and a cache that never stops a run.

Nothing is compiled at import. Code is kept in `NUMBA_CACHE_DIR` where it is set, else in `__pycache__` beside the
source, else in the user's cache folder (`~/.cache/numba`). Where none of them can be written it is compiled anew in
every process: numba's own cache raises at import there, and on damaged files in the middle of a run. A process that
has to compile says so once, as information of the logger `trackweave.compiled`; commands print it. What numba does more
than is needed for loops like these is left out, see `_compile_uncollected`, `_InnerCompiler` and `_equal_options`.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType
from typing import Any, TypeVar, overload

import numpy as np
from numba import config, version_info
from numba import njit as numba_njit
from numba.core import caching, codegen, compiler, sigutils, targetconfig, typed_passes
from numba.core.compiler_machinery import register_pass
from numba.extending import register_jitable

# Some versions of numba have types, most have not.
_numba_njit: Any = numba_njit
_register_jitable: Any = register_jitable
_null_cache: Any = caching.NullCache
_function_cache: Any = caching.FunctionCache
_normalize_signature: Any = sigutils.normalize_signature
_options_base: Any = getattr(targetconfig, "TargetConfig", object)
_code_library: Any = getattr(codegen, "JITCodeLibrary", object)
_compiler_base: Any = getattr(compiler, "CompilerBase", object)
_native_lowering: Any = getattr(typed_passes, "NativeLowering", object)
_register_pass: Any = register_pass

SHORTENED = ((0, 68),)
"""Versions of numba whose insides are known: with others all is compiled as numba does it, which takes longer."""
_IS_SHORTENED = tuple(version_info.short) in SHORTENED

LOGGER = logging.getLogger("trackweave.compiled")
_SAID: list[str | None] = []
"""Where code is kept, once that was said."""

IS_DISABLED = bool(getattr(config, "DISABLE_JIT", False))
"""`NUMBA_DISABLE_JIT=1`: nothing is compiled."""

F = TypeVar("F", bound=Callable[..., Any])


@overload
def njit(function: F) -> F: ...


@overload
def njit(*, nogil: bool = False, fastmath: bool = False) -> Callable[[F], F]: ...


def njit(function: Callable[..., Any] | None = None, *, nogil: bool = False, fastmath: bool = False) -> Any:
    """`numba.njit` with a cache, `@njit` or `@njit(…)`; with `NUMBA_DISABLE_JIT=1` the function stays plain Python.

    A first run waits for all of it: a loop, a branch, an index of two numbers, a short function are some hundredths of
    a second each, an array that a loop makes a fifth. A division by zero gives what it gives in arrays, because the
    error of Python would have to be compiled at each of them.

    Args:
        function: what is compiled.
        nogil: other threads go on meanwhile.
        fastmath: sums may be taken in another order.
    """
    if function is None:
        return partial(njit, nogil=nogil, fastmath=fastmath)
    # Without an entry for callers in C, which there are none of: it is a tenth of what there is to compile.
    options = {"nogil": nogil, "fastmath": fastmath, "no_cfunc_wrapper": True, "error_model": "numpy"}
    dispatcher = _numba_njit(**options)(function)
    if not IS_DISABLED:
        dispatcher._cache = _NoCache()
        with suppress(RuntimeError, OSError):  # no folder can be written, or there is no source file
            dispatcher._cache = _SafeCache(function)
        dispatcher.compile = partial(_compile_uncollected, dispatcher.compile)
    return dispatcher


def _compile_uncollected(compile_types: Callable[[Any], Any], types: Any) -> Any:
    """Compiles without Python's search for garbage, which goes through all that numba makes, a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return compile_types(types)
    finally:
        if was_enabled:
            gc.enable()


@overload
def inner(function: F) -> F: ...


@overload
def inner(*, fastmath: bool = False) -> Callable[[F], F]: ...


def inner(function: Callable[..., Any] | None = None, *, fastmath: bool = False) -> Any:
    """Marks a function that compiled loops call: it becomes part of them, without an entry of its own from Python,
    which is half of what there is to compile of a short one. Called from Python it runs as plain Python.

    Args:
        function: what is marked.
        fastmath: as for `njit`.
    """
    if function is None:
        return partial(inner, fastmath=fastmath)
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    options |= {"fastmath": fastmath, "error_model": "numpy"}
    if _IS_SHORTENED:
        options["pipeline_class"] = _InnerCompiler
    return _register_jitable(**options)(function)


class _InnerLibrary(_code_library):  # type: ignore[misc]
    """Code of an `inner` function. It is optimised and made machine code where it is linked in, and nowhere else."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None: ...

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@_register_pass(mutates_CFG=True, analysis_only=False)
class _InnerLowering(_native_lowering):  # type: ignore[misc]
    """From typed code to an `_InnerLibrary`."""

    _name = "trackweave_inner_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        flags = state.flags
        state.flags = flags.copy()
        state.flags.no_compile = True
        try:
            super().run_pass(state)
        finally:
            state.flags = flags
        state.library._ensure_finalized()
        lowered = state["cr"]
        # What other functions find this one by; nobody calls it.
        address = ctypes.cast(ctypes.pythonapi.PyErr_BadInternalCall, ctypes.c_void_p).value
        module, name = lowered.fndesc.lookup_module(), lowered.fndesc.qualname.rpartition(".")[-1]
        make_function = importlib.import_module("numba._dynfunc").make_function
        entry = make_function(module, name, "part of other functions", address, lowered.env, (state.library,))
        state.targetctx.insert_user_function(entry, lowered.fndesc, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class _InnerCompiler(_compiler_base):  # type: ignore[misc]
    """Numba's compiler with a last step of its own: three tenths of a first run were code that nobody calls."""

    def define_pipelines(self) -> list[Any]:
        passes: Any = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state, "nopython")  # type: ignore[no-untyped-call]
        passes.passes = [
            (_InnerLowering if step is _native_lowering else step, description) for step, description in passes.passes
        ]
        passes.finalize()
        return [passes]


def _say_wait(folder: str | None) -> None:
    """Says once what a run waits for, whatever else it compiles."""
    if not _SAID:
        kept = (
            f"kept for the next ones, as in {folder}"
            if folder is not None
            else "in every run: no folder can be written"
        )
        LOGGER.info("compiling loops, some seconds of a first run (%s)", kept)
        _SAID.append(folder)


class _NoCache(_null_cache):  # type: ignore[misc]
    """Stands where code cannot be kept."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """None."""
        _say_wait(None)


class _SafeCache(_function_cache):  # type: ignore[misc]
    """Numba's cache; what cannot be read is compiled again, what cannot be written is left out.

    Code is known by all that it was compiled from: numba alone looks at the file of the function, not at the functions
    and constants that it takes from other files.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for some types, or None."""
        found = None
        try:
            found = super().load_overload(sig, target_context)
            # Two processes that fill one cache at once may have left another function's code under this name.
            if found is not None and found.signature.args != _normalize_signature(sig)[0]:
                found = None
                self._forget()
        except Exception:  # noqa: BLE001 - unpickling damaged data raises anything
            self._forget()
        if found is None:
            _say_wait(self.cache_path)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps a compiled function."""
        try:
            super().save_overload(sig, data)
        except Exception:  # noqa: BLE001 - as above: the index is read first
            self._forget()

    def _forget(self) -> None:
        with suppress(Exception):
            self.flush()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _digest(self._py_func))


def _digest(function: FunctionType) -> str:
    """Of a function's code, and of every function and constant outside it that it refers to."""
    digest = hashlib.sha256()
    for piece in _pieces(function, set()):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(function: FunctionType, seen: set[FunctionType]) -> Iterator[bytes]:
    if function in seen:
        return
    seen.add(function)
    for code in _codes(function.__code__):
        constants = [value for value in code.co_consts if not isinstance(value, CodeType)]
        yield repr((code.co_code, constants, code.co_names)).encode()
        for name in code.co_names:
            value = function.__globals__.get(name)
            value = getattr(value, "py_func", value)
            if isinstance(value, FunctionType):
                yield from _pieces(value, seen)
            elif isinstance(value, np.ndarray):
                yield value.tobytes()
            elif isinstance(value, bool | int | float | str | tuple):
                yield repr(value).encode()


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _codes(value)


# Numba finds what it has compiled by the options it was compiled with. It hashes only their names, the same for all,
# and compares some twenty options one by one, defaults too: a fifth of a first run (numba 0.68). Here an option set to
# its default differs from one that is not set; what is kept under the one is compiled once more for the other.
def _hash_options(options: Any) -> int:
    return hash(tuple(options._values))


def _equal_options(options: Any, other: object) -> bool:
    return options is other or (isinstance(other, _options_base) and bool(options._values == other._values))


if _IS_SHORTENED:
    _options_base.__hash__ = _hash_options
    _options_base.__eq__ = _equal_options
