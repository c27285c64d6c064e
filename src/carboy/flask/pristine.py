"""Flask and Werkzeug as they were installed: what the guards of the loop's path compare with."""

from __future__ import annotations

import inspect
import os
import types
from pathlib import Path
from typing import Any

import flask
import werkzeug
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SecureCookieSessionInterface
from werkzeug.routing import Map, MapAdapter, Rule, converters
from werkzeug.routing.matcher import StateMachineMatcher
from werkzeug.wrappers import Request, Response

from carboy.flask import patch

#: The methods that a request passes from the server to its view and back.
REQUEST_PATH_METHODS = (
    "__call__",
    "app_context",
    "async_to_sync",
    "create_url_adapter",
    "dispatch_request",
    "do_teardown_appcontext",
    "do_teardown_request",
    "ensure_sync",
    "finalize_request",
    "full_dispatch_request",
    "make_default_options_response",
    "make_response",
    "preprocess_request",
    "process_response",
    "raise_routing_exception",
    "request_context",
    "should_ignore_error",
    "wsgi_app",
)

#: The signals that are sent on that way.
REQUEST_PATH_SIGNALS = (
    flask.appcontext_popped,
    flask.appcontext_pushed,
    flask.appcontext_tearing_down,
    flask.request_finished,
    flask.request_started,
    flask.request_tearing_down,
)

#: The classes whose methods Flask calls on that way, and the native dispatch does without.
REQUEST_PATH_CLASSES = (
    flask.ctx.AppContext,
    flask.ctx._AppCtxGlobals,
    SecureCookieSessionInterface,
    Map,
    MapAdapter,
    StateMachineMatcher,
    # Only Flask 3.1 has it, and the module makes a warning of asking for it elsewhere.
    *(
        class_
        for name, class_ in vars(flask.ctx).items()
        if name == "RequestContext" and isinstance(class_, type)
    ),
)

_OWN_SOURCES = tuple(
    str(Path(package.__file__).parent) + os.sep
    for package in (flask, werkzeug)
    if package.__file__ is not None
)

_BUILT_IN = (
    types.BuiltinFunctionType,
    types.ClassMethodDescriptorType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)

_OWN_RESPONSES = (flask.Response, Response)

_OWN_CONVERTERS = frozenset(
    {
        converters.AnyConverter,
        converters.FloatConverter,
        converters.IntegerConverter,
        converters.PathConverter,
        converters.UnicodeConverter,
        converters.UUIDConverter,
    }
)


def _own_method(name: str) -> object:
    """Find Flask's function, or something that equals nothing if somebody replaced it."""
    if name in patch.REPLACEMENTS:
        is_own = name == "async_to_sync" or _is_own_function(patch.replaced(name))
        return patch.REPLACEMENTS[name] if is_own else object()
    method = inspect.getattr_static(flask.Flask, name, None)
    if method is None:
        # Flask 3.2 has None where a method is not overridden.
        return None
    return method if _is_own_function(method) else object()


def _is_own_function(function: Any) -> bool:
    """Whether a function and all that it wraps are defined in Flask's or Werkzeug's files.

    Flask 3.2 wraps its own methods for subclasses with the signatures of 3.1. What tracers
    wrap around a method looks like it in most ways, so every layer is looked at.
    """
    while type(function) is types.FunctionType:
        if not function.__code__.co_filename.startswith(_OWN_SOURCES):
            return False
        if "__wrapped__" not in vars(function):
            return True
        function = function.__wrapped__  # type: ignore[attr-defined]
    return False


def request_path_parts() -> tuple[object, ...]:
    """Give the native dispatch what it compares with.

    Returns:
        The methods by name, the signals' receivers, the session interface's class, the class
        of ``g``, and the classes that have to stay as they are, with whether they are.
    """
    methods = [(name, _own_method(name)) for name in REQUEST_PATH_METHODS]
    receivers = [signal.receivers for signal in REQUEST_PATH_SIGNALS]
    return (
        methods,
        receivers,
        SecureCookieSessionInterface,
        flask.ctx._AppCtxGlobals,
        [(class_, _is_plain(class_)) for class_ in REQUEST_PATH_CLASSES],
    )


def _is_plain(class_: type) -> bool:
    """Whether a class has Flask's or Werkzeug's own methods and no others."""
    return all(_is_installed(class_, name) for name in dir(class_))


def _is_installed(class_: type, name: str) -> bool:
    """Whether a method of a class is the one that Flask's or Werkzeug's files define."""
    attribute = inspect.getattr_static(class_, name, None)
    if isinstance(attribute, (classmethod, staticmethod)):
        attribute = attribute.__func__
    if isinstance(attribute, property):
        getters = (attribute.fget, attribute.fset, attribute.fdel)
        return all(getter is None or _is_own_function(getter) for getter in getters)
    return not callable(attribute) or isinstance(attribute, type) or _is_own(attribute)


def _is_own(function: Any) -> bool:
    # What Python itself defines (``object.__init__``) has no code to look at.
    return isinstance(function, _BUILT_IN) or _is_own_function(function)


def is_plain_request_class(class_: type) -> bool:
    """Whether requests of a class are made, checked and closed by Werkzeug's own code."""
    return (
        issubclass(class_, flask.Request)
        and class_.trusted_hosts is None
        and class_.__new__ is object.__new__
        and class_.__setattr__ is object.__setattr__
        and class_.__init__ is Request.__init__
        and class_.close is Request.close
        and _is_installed(class_, "__init__")
        and _is_installed(class_, "close")
    )


def are_plain_response_classes() -> bool:
    """Whether Flask's response class and JSON provider are as they were installed."""
    response_class, provider_class = flask.Response, DefaultJSONProvider
    return (
        response_class.default_mimetype == "text/html"
        and response_class.default_status == 200
        and _is_plain(response_class)
        and _is_plain(provider_class)
    )


def has_own_converter(url_map: Map) -> bool:
    """Whether matching runs code that is not Werkzeug's: a converter, rule or map class."""
    if type(url_map) is not Map:
        return True
    return any(
        type(rule) is not Rule
        or any(type(converter) not in _OWN_CONVERTERS for converter in rule._converters.values())
        for rule in url_map.iter_rules()
    )


def rule_facts(url_map: Map, rule: Rule) -> tuple[Any, list[str], bool, bool, bool]:
    """Look at a rule.

    Returns:
        Its endpoint; the names of the endpoint's blueprints, the inner first; whether a match
        leads straight to the view; whether Flask answers OPTIONS itself; and whether the path
        has no variable part.
    """
    endpoint = rule.endpoint
    names: list[str] = []
    if isinstance(endpoint, str) and "." in endpoint:
        name = endpoint.rpartition(".")[0]
        names.append(name)
        while "." in name:
            name = name.rpartition(".")[0]
            names.append(name)
    siblings = url_map._rules_by_endpoint.get(endpoint, [])
    is_plain = (
        rule.redirect_to is None
        and not rule.alias
        and not rule.websocket
        and not any(sibling.defaults for sibling in siblings)
    )
    answers_options = bool(getattr(rule, "provide_automatic_options", False))
    return endpoint, names, is_plain, answers_options, not rule._converters


def is_complete_response(value: object) -> bool:
    """Whether a value is a response whose body is there, and that runs nobody's code."""
    if type(value) not in _OWN_RESPONSES:
        return False
    assert isinstance(value, Response)
    return value.is_sequence and not value._on_close
