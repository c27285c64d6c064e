//! Every Python name that the Rust code imports, each looked up once per process.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Declares a function that imports `module.name` on its first call and keeps it.
macro_rules! imported {
    ($($(#[$documentation:meta])* $function:ident = $module:literal . $name:literal;)*) => {$(
        $(#[$documentation])*
        pub(crate) fn $function(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
            static OBJECT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            OBJECT.import(py, $module, $name)
        }
    )*};
}

imported! {
    /// `asyncio.Task`, the C class.
    task = "asyncio" . "Task";
    asyncio_tasks = "asyncio" . "tasks";
    asyncio_futures = "asyncio" . "futures";
    base_event_loop = "asyncio" . "BaseEventLoop";
    asyncio_logger = "asyncio.log" . "logger";
    /// The module, whose own name for the logger may be replaced.
    base_events = "asyncio" . "base_events";
    is_coroutine = "asyncio.coroutines" . "iscoroutine";
    is_coroutine_function = "inspect" . "iscoroutinefunction";
    format_callback_source = "asyncio.format_helpers" . "_format_callback_source";
    format_handle = "asyncio.base_events" . "_format_handle";
    thread = "threading" . "Thread";
    temporary_file = "tempfile" . "TemporaryFile";
    memory_view = "builtins" . "memoryview";
    greenlet = "greenlet" . "greenlet";
    current_greenlet = "greenlet" . "getcurrent";
    /// The logger of everything that goes wrong in the server.
    logger = "carboy.log" . "logger";
    /// Awaits something and settles a slot with the outcome.
    deliver = "carboy.bridge" . "deliver";
    client_disconnected = "werkzeug.exceptions" . "ClientDisconnected";
    request_entity_too_large = "werkzeug.exceptions" . "RequestEntityTooLarge";
    file_wrapper = "werkzeug.wsgi" . "FileWrapper";
    /// Logs what an application let out, with the request it happened in.
    log_failure = "carboy.log" . "log_failure";
    flask_class = "flask" . "Flask";
    /// What the guards of the loop's path compare with.
    request_path_parts = "carboy.flask.pristine" . "request_path_parts";
    is_plain_request_class = "carboy.flask.pristine" . "is_plain_request_class";
    are_plain_response_classes = "carboy.flask.pristine" . "are_plain_response_classes";
    /// Makes the error for sync code that would block the loop's thread.
    blocking_call_error = "carboy.compat.blocking" . "blocking_call_error";
    get_running_loop = "asyncio" . "_get_running_loop";
    has_own_converter = "carboy.flask.pristine" . "has_own_converter";
    rule_facts = "carboy.flask.pristine" . "rule_facts";
    is_complete_response = "carboy.flask.pristine" . "is_complete_response";
    /// The coroutine of a request that is served on the loop's thread.
    serve_on_loop = "carboy.bridge" . "serve_on_loop";
    enter = "carboy.flask.pipeline" . "enter";
    finalize = "carboy.flask.pipeline" . "finalize";
    leave = "carboy.flask.pipeline" . "leave";
    finish = "carboy.flask.pipeline" . "finish";
    socket = "socket" . "socket";
    wsgi_decoding_dance = "werkzeug._internal" . "_wsgi_decoding_dance";
    context_parts = "carboy.flask.lazy_context" . "parts";
    create_url_adapter = "carboy.flask.lazy_context" . "create_url_adapter";
    open_session = "carboy.flask.lazy_context" . "open_session";
    response_class = "flask" . "Response";
    json_provider_class = "flask.json.provider" . "DefaultJSONProvider";
    json_encoder = "carboy.flask.json" . "json_encoder";
    /// What transports say that they are.
    asyncio_transport = "asyncio.transports" . "_FlowControlMixin";
    asyncio_datagram_transport = "asyncio.selector_events" . "_SelectorDatagramTransport";
    asyncio_read_transport = "asyncio" . "ReadTransport";
    selector_event_loop = "asyncio.selector_events" . "BaseSelectorEventLoop";
    future = "asyncio" . "Future";
    /// Raises for a socket of `ssl`.
    check_ssl_socket = "asyncio.base_events" . "_check_ssl_socket";
    /// What `socket.socket` is a subclass of: it has the plain numbers of a socket's kind.
    plain_socket = "_socket" . "socket";
    buffered_protocol = "asyncio" . "BufferedProtocol";
    set_result_unless_cancelled = "asyncio.futures" . "_set_result_unless_cancelled";
    transport_socket = "asyncio.trsock" . "TransportSocket";
    sendfile_mode = "asyncio.constants" . "_SendfileMode";
    os_strerror = "os" . "strerror";
    warn = "warnings" . "warn";
    memory_bio = "ssl" . "MemoryBIO";
    ssl_object = "ssl" . "SSLObject";
    ssl_error = "ssl" . "SSLError";
    ssl_want_read_error = "ssl" . "SSLWantReadError";
    ssl_syscall_error = "ssl" . "SSLSyscallError";
    ssl_certificate_error = "ssl" . "CertificateError";
    default_tls_context = "asyncio.sslproto" . "_create_transport_context";
    /// What TLS says that it is.
    asyncio_tls_protocol = "asyncio.sslproto" . "SSLProtocol";
    asyncio_tls_transport = "asyncio.sslproto" . "_SSLProtocolTransport";
    asyncio_constants = "asyncio" . "constants";
    timeout_error = "builtins" . "TimeoutError";
    extract_stack = "asyncio.format_helpers" . "extract_stack";
    cancelled_error = "asyncio" . "CancelledError";
    is_awaitable = "inspect" . "isawaitable";
    weak_reference = "weakref" . "ref";
    /// Awaits something and settles a promise with the outcome.
    settle = "carboy.promise" . "settle";
    describe_place = "carboy.promise" . "describe_place";
    /// Tells of an error when nobody has looked at it and its promise is gone.
    unseen = "carboy.promise" . "Unseen";
    report_unhandled = "carboy.promise" . "report_unhandled";
    /// Who runs handlers on which event loop, as long as that exists.
    owners_of_loops = "carboy.promise" . "owners_of_loops";
    inner_scope = "carboy.scope" . "inner_scope";
    deadline_at = "carboy.scope" . "deadline_at";
    deadline_exceeded = "carboy.scope" . "deadline_exceeded";
    no_result_in_time = "carboy.scope" . "no_result_in_time";
    named_after = "carboy.scope" . "named_after";
    client_gone = "carboy.scope" . "client_gone";
    explain_end = "carboy.scope" . "explain_end";
    cancellation_settings = "carboy.cancellation" . "settings_of";
    scope_of_request = "carboy.scope" . "scope_of_request";
    /// The scope of a request that no server of carboy's ends.
    lonely_request_scope = "carboy.scope" . "LonelyRequestScope";
    /// Lets a request fail if a promise of it has, and nobody looked.
    fail_with_unhandled = "carboy.scope" . "fail_with_unhandled";
    note_known_calls = "carboy.http.timeline" . "note_known_calls";
    fulfilled = "carboy.promise" . "Fulfilled";
    rejected = "carboy.promise" . "Rejected";
    call_with_values = "carboy.promise" . "call_with_values";
    map_items = "carboy.promise" . "map_items";
    join_promises = "carboy.promise" . "join_promises";
    /// Makes a function that runs another one on a thread.
    note_end_of_thread = "carboy.promise" . "note_end_of_thread";
    in_thread = "carboy.promise" . "in_thread";
    /// Notes that a thread waits, which may be one for handlers.
    begin_wait = "carboy.thread_handlers" . "begin_wait";
    add_origin = "carboy.promise" . "add_origin";
    short_representation = "carboy.promise" . "short_representation";
    promise_of_all_within = "carboy.promise" . "promise_of_all_within";
    report_detached = "carboy.promise" . "report_detached";
    exception_group = "builtins" . "BaseExceptionGroup";
    item_getter = "operator" . "itemgetter";
    own_folder = "carboy.promise" . "OWN_FOLDER";
    /// The innermost frame of each thread.
    current_frames = "sys" . "_current_frames";
    report_stall = "carboy.watchdog" . "report_stall";
    report_end_of_stall = "carboy.watchdog" . "report_end_of_stall";
    background_loop = "carboy.background_loop" . "shared_background_loop";
}

/// Flask's module of context variables, if it is imported.
fn flask_globals(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let modules = MODULES.import(py, "sys", "modules")?;
    modules
        .cast::<pyo3::types::PyDict>()?
        .get_item(pyo3::intern!(py, "flask.globals"))
}

/// The variable of Flask's application context, if Flask is imported.
pub(crate) fn app_context_variable(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyAny>>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Some(variable) = VARIABLE.get(py) {
        return Ok(Some(variable.bind(py)));
    }
    let Some(module) = flask_globals(py)? else {
        return Ok(None);
    };
    // While it is being imported it has no variables yet.
    let found = module.getattr_opt(pyo3::intern!(py, "_cv_app"))?;
    Ok(found.map(|variable| VARIABLE.get_or_init(py, || variable.unbind()).bind(py)))
}

/// The variable of the context that has Flask's request: Flask 3.1 has one of its own for that,
/// 3.2 one for both.
pub(crate) fn request_context_variable(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyAny>>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if let Some(variable) = VARIABLE.get(py) {
        return Ok(Some(variable.bind(py)));
    }
    let Some(module) = flask_globals(py)? else {
        return Ok(None);
    };
    // While it is being imported it has no variables yet.
    if app_context_variable(py)?.is_none() {
        return Ok(None);
    }
    let found = match module.getattr_opt(pyo3::intern!(py, "_cv_request"))? {
        Some(variable) => Some(variable),
        None => module.getattr_opt(pyo3::intern!(py, "_cv_app"))?,
    };
    Ok(found.map(|variable| VARIABLE.get_or_init(py, || variable.unbind()).bind(py)))
}

/// `json.loads`'s own scanner, native: called with a text and a position, it returns the value
/// and the position after it.
pub(crate) fn json_scanner(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static SCANNER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let scanner = SCANNER.get_or_try_init(py, || {
        let decoder = py.import("json")?.getattr("_default_decoder")?;
        Ok::<_, PyErr>(decoder.getattr("scan_once")?.unbind())
    })?;
    Ok(scanner.bind(py))
}

/// Whether `asyncio.Task` can take its first step in its constructor (CPython 3.12).
pub(crate) fn has_eager_start(py: Python<'_>) -> bool {
    static ANSWER: PyOnceLock<bool> = PyOnceLock::new();
    *ANSWER.get_or_init(py, || {
        py.import("asyncio")
            .is_ok_and(|asyncio| asyncio.hasattr("eager_task_factory").unwrap_or(false))
    })
}

/// Whether asyncio's descriptions of callbacks leave their arguments out but in debug mode
/// (CPython 3.13).
pub(crate) fn hides_arguments(py: Python<'_>) -> PyResult<bool> {
    static ANSWER: PyOnceLock<bool> = PyOnceLock::new();
    ANSWER
        .get_or_try_init(py, || {
            let defaults = format_callback_source(py)?.getattr("__kwdefaults__")?;
            Ok(!defaults.is_none())
        })
        .copied()
}

/// Whether asyncio's transports send empty datagrams (CPython 3.13). Nothing but the version
/// tells it.
pub(crate) fn sends_empty_datagrams(py: Python<'_>) -> bool {
    py.version_info() >= (3, 13)
}

/// The pair (1, 0), which stands for PEP 3333.
pub(crate) fn wsgi_version(py: Python<'_>) -> &Bound<'_, PyAny> {
    static VERSION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    VERSION
        .get_or_init(py, || {
            let version = pyo3::types::PyTuple::new(py, [1, 0]);
            version.map_or_else(|_| py.None(), |version| version.into_any().unbind())
        })
        .bind(py)
}

/// Whether the interpreter is in development mode (`python -X dev`).
pub(crate) fn is_development_mode(py: Python<'_>) -> bool {
    static ANSWER: PyOnceLock<bool> = PyOnceLock::new();
    *ANSWER.get_or_init(py, || {
        py.import("sys")
            .and_then(|sys| sys.getattr("flags")?.getattr("dev_mode")?.is_truthy())
            .unwrap_or(false)
    })
}

/// The module of the exceptions of `carboy.http`.
pub(crate) fn http_exceptions(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("carboy.http.exceptions")
}

/// The folder of carboy's own Python code, with a slash at its end.
pub(crate) fn package_folder(py: Python<'_>) -> PyResult<&str> {
    own_folder(py)?.cast::<pyo3::types::PyString>()?.to_str()
}

/// `sys.stderr` as it is now: tests and notebooks replace it.
pub(crate) fn standard_error(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static SYS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let sys = SYS.get_or_try_init(py, || py.import("sys").map(|sys| sys.into_any().unbind()))?;
    sys.bind(py).getattr(pyo3::intern!(py, "stderr"))
}
