"""Classes that a matrix names: imported, and called only with arguments that they have."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

# Parameters of a call that are no settings: `self` is bound, these take whatever is left over.
LEFT_OVER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class WrongClassError(Exception):
    """What the matrix names is not there, or is not what it must be; says what to change."""


def load(reference: str, code_sha256: str = "") -> Any:
    """What `package.module:name` means here.

    `code_sha256`: of the code that the matrix brings, whose folder is named by it; empty where it
    brings none.

    Raises:
        WrongClassError: if there is no such module or name, or the module is another's.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise WrongClassError(
            f"{reference}: there is no module {error.name!r} where the cell runs. Name the code "
            "that holds it by `path`, or what is to be installed by `image: {requirements: [...]}`"
        ) from error
    except SystemExit as error:
        raise WrongClassError(
            f"{reference}: importing {module_name} ended the process. Put what is no definition "
            "under `if __name__ == '__main__':`"
        ) from error
    file = inspect.getsourcefile(module) or ""
    if _is_brought(module_name, code_sha256) and code_sha256 not in Path(file).parts:
        raise WrongClassError(
            f"{reference}: {module_name!r} is also the name of a module of the cell itself, "
            f"{file or 'built in'}. Rename yours"
        )
    try:
        return getattr(module, name)
    except AttributeError as error:
        names = [
            each
            for each, value in vars(module).items()
            if each[0] != "_" and not inspect.ismodule(value)
        ]
        raise WrongClassError(
            f"{reference}: {module_name} has no {name!r}. {_nearest(name, names)}"
        ) from error


def _is_brought(module_name: str, code_sha256: str) -> bool:
    """Whether the matrix's code has a package of this name."""
    package = module_name.partition(".")[0]
    folders = [Path(each) for each in sys.path if Path(each).name == code_sha256]
    return any(
        (folder / name).exists() for folder in folders for name in (package, f"{package}.py")
    )


def arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a call gets them: lists as tuples, which classes expect of `betas`."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }


def check_arguments(
    reference: str, call: Callable[..., Any], settings: Collection[str], given: Collection[str]
) -> list[str]:
    """Whether a call takes these settings, and needs no others; those that it takes unnamed.

    `given`: names of the arguments that we give it ourselves. Unnamed are those that only a
    `**kwargs` takes, which may be all that becomes of them.

    Raises:
        WrongClassError: naming the valid ones.
    """
    known = parameters(call)
    if known is None:
        return []
    valid = [name for name in named(call) if name not in given]
    unnamed = [name for name in settings if name not in valid]
    if unnamed and not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
        raise unknown_argument(reference, unnamed[0], valid)
    missing = [
        name
        for name in valid
        if known[name].default is inspect.Parameter.empty and name not in settings
    ]
    if missing:
        raise WrongClassError(
            f"{reference} needs {', '.join(missing)}: set {'it' if len(missing) == 1 else 'them'} "
            "in the matrix"
        )
    return unnamed


def method(owner: object, name: str) -> Callable[..., Any] | None:
    """The method of this name; None if there is none: an attribute may be something else."""
    found = getattr(owner, name, None)
    return found if inspect.isroutine(found) else None


def parameters(call: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The parameters of a call, None where it does not tell them."""
    try:
        return dict(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return None


def named(call: Callable[..., Any]) -> list[str]:
    """The names of a call's parameters, but for those that take whatever is left over."""
    known = (parameters(call) or {}).items()
    return [name for name, each in known if each.kind not in LEFT_OVER]


def unknown_argument(reference: str, name: str, valid: Collection[str]) -> WrongClassError:
    return WrongClassError(f"{reference} has no argument {name!r}. {_nearest(name, valid)}")


def _nearest(name: str, valid: Collection[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Valid: {', '.join(sorted(valid)) or 'none'}"
