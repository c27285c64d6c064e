"""Finding the application that the command line names, as ``flask run`` does."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask import Flask
from flask.cli import NoAppException, ScriptInfo, load_dotenv, prepare_import

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["ApplicationNotFoundError", "load_application"]


class ApplicationNotFoundError(click.ClickException):
    """The application could not be found or loaded; the message says why and what to do."""


def load_application(name: str | None) -> tuple[WSGIApplication, str]:
    """Import an application.

    Args:
        name: ``module``, ``module:app``, ``module:create_app()`` or a file's path; ``None``
            for ``FLASK_APP``, else ``wsgi.py`` or ``app.py``.

    Returns:
        The application, and how it was found.

    Raises:
        ApplicationNotFoundError: If there is none, or it raises while it is imported.
    """
    load_dotenv()
    # An app.run() that is left in the module is then ignored, with a message of Flask's.
    os.environ["FLASK_RUN_FROM_CLI"] = "true"
    name = name or os.environ.get("FLASK_APP") or None
    if name is None:
        return _discover()
    module_name, _, attribute = name.partition(":")
    module = _import(prepare_import(module_name))
    target = attribute or "the app"
    try:
        application = _resolve(module_name, module, attribute)
    except NoAppException as error:
        raise ApplicationNotFoundError(str(error)) from error
    except ApplicationNotFoundError:
        raise
    except Exception as error:
        raise _raised(f"{target} of module {module.__name__!r}", error) from error
    return application, name


def _discover() -> tuple[WSGIApplication, str]:
    found = next((path for path in ("wsgi.py", "app.py") if Path(path).is_file()), None)
    if found is None:
        raise ApplicationNotFoundError(
            f"Found no application in {Path.cwd()}.\n"
            "Name one (carboy run hello:app), set FLASK_APP, or run carboy where there is a"
            " wsgi.py or an app.py."
        )
    try:
        return ScriptInfo(app_import_path=found, load_dotenv_defaults=False).load_app(), found
    except NoAppException as error:
        raise ApplicationNotFoundError(str(error)) from error
    except Exception as error:
        raise _raised(found, error) from error


def _import(module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if it is that very module, or a package on the way to it, which is missing.
        missing = error.name or ""
        if missing == module_name or module_name.startswith(f"{missing}."):
            raise ApplicationNotFoundError(
                f"There is no module {module_name!r}: looked in {Path.cwd()} and in the"
                " installed packages."
            ) from error
        raise _raised(f"module {module_name!r}", error) from error
    except Exception as error:
        raise _raised(f"module {module_name!r}", error) from error


def _raised(what: str, error: BaseException) -> ApplicationNotFoundError:
    # The application's own traceback, without the frames of the import system and of ours.
    trace = error.__traceback__
    here = str(Path(__file__).parent)
    while trace is not None and (
        trace.tb_frame.f_code.co_filename.startswith((here, "<frozen importlib"))
        or "importlib" in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    # There is none of a syntax error, which says itself where it is.
    lines = traceback.format_exception(type(error), error, trace)
    return ApplicationNotFoundError(f"Loading {what} raised an exception:\n\n{''.join(lines)}")


def _resolve(module_name: str, module: Any, attribute: str) -> WSGIApplication:
    if attribute:
        expression = attribute.strip()
        if expression.isidentifier():
            application = getattr(module, expression, None)
            if application is None:
                raise ApplicationNotFoundError(
                    f"Module {module_name!r} has no attribute {expression!r}.{_suggestion(module)}"
                )
            if inspect.isfunction(application) and not _takes_environ(application):
                # A factory that is named without its parentheses, as flask run allows.
                return _flask_finds(module, f"{expression}()")
            if not callable(application):
                raise ApplicationNotFoundError(
                    f"{module_name}:{expression} is a {type(application).__name__}, not an"
                    " application: it can't be called."
                )
            return application  # type: ignore[no-any-return]
        return _flask_finds(module, expression)
    return _flask_finds(module, None)


def _takes_environ(function: Any) -> bool:
    """Whether a function looks like a WSGI callable: it can be called with two arguments."""
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True


def _suggestion(module: Any) -> str:
    apps = [name for name, value in vars(module).items() if isinstance(value, Flask)]
    return f" Did you mean {apps[0]!r}?" if apps else ""


def _flask_finds(module: Any, expression: str | None) -> WSGIApplication:
    from flask.cli import find_app_by_string, find_best_app

    if expression is None:
        return find_best_app(module)
    return find_app_by_string(module, expression)


def add_working_directory() -> None:
    """Let modules of the current directory be imported."""
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
