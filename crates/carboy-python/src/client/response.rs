//! What Python's `Response` is made of.

use carboy_client::{Content, ResponseHead, Timings};
use http::{HeaderMap, Version};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::call::TemplateRequest;
use super::content::ContentStream;
use super::whole_content::WholeContent;
use crate::names;

/// A response: its head, and its content unless that is a stream.
#[pyclass(frozen, module = "carboy._carboy")]
pub(crate) struct ResponseData {
    head: Box<ResponseHead>,
    content: Option<WholeContent>,
    timings: Timings,
    history: Vec<Py<ResponseData>>,
    stream: Option<Py<ContentStream>>,
    /// What the request is made of when it is asked for.
    source: Option<TemplateRequest>,
    request: PyOnceLock<Py<PyAny>>,
}

impl ResponseData {
    pub(super) fn new(
        py: Python<'_>,
        source: Option<TemplateRequest>,
        head: Box<ResponseHead>,
        history: Vec<ResponseHead>,
        content: Option<Content>,
        stream: Option<Py<ContentStream>>,
        timings: Timings,
    ) -> PyResult<Self> {
        let redirect = |head: ResponseHead| {
            let data = Self {
                head: Box::new(head),
                content: Some(WholeContent::new(Content::default())),
                timings: Timings::default(),
                history: Vec::new(),
                stream: None,
                source: None,
                request: PyOnceLock::new(),
            };
            Py::new(py, data)
        };
        Ok(Self {
            head,
            content: content.map(WholeContent::new),
            timings,
            history: history.into_iter().map(redirect).collect::<PyResult<_>>()?,
            stream,
            source,
            request: PyOnceLock::new(),
        })
    }
}

/// Text of a header: UTF-8 if it is that, else Latin-1 (RFC 9110 section 5.5).
fn text<'py>(py: Python<'py>, value: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(value) {
        Ok(text) => PyString::new(py, text),
        Err(_) => {
            let text: String = value.iter().copied().map(char::from).collect();
            PyString::new(py, &text)
        }
    }
}

/// Names in lower case and values.
fn pairs<'py>(py: Python<'py>, headers: &HeaderMap) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in headers {
        list.append((name.as_str(), text(py, value.as_bytes())))?;
    }
    Ok(list)
}

/// A method, a URL, and headers.
type Following<'data, 'py> = (&'data str, &'data str, Bound<'py, PyList>);

/// Content without what JSON takes for white space (RFC 8259 section 2) at both ends.
fn without_spaces(content: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let Some(start) = content.iter().position(|byte| !is_space(byte)) else {
        return &[];
    };
    let end = content.iter().rposition(|byte| !is_space(byte));
    &content[start..end.map_or(start, |end| end + 1)]
}

#[pymethods]
impl ResponseData {
    /// The request that the response was made without.
    fn request(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let request = self.request.get_or_try_init(py, || source.make(py))?;
        Ok(Some(request.clone_ref(py)))
    }

    /// The method, the URL and the headers of the request that a redirect has asked for; ``None``
    /// if there was none.
    fn following_request<'py>(&self, py: Python<'py>) -> PyResult<Option<Following<'_, 'py>>> {
        let Some(request) = &self.head.request else {
            return Ok(None);
        };
        let (method, url) = (request.method.as_str(), self.head.url.as_str());
        Ok(Some((method, url, pairs(py, &request.headers)?)))
    }

    /// What the content means as JSON, for content that is UTF-8 without any doubt; else and
    /// for content that is not JSON, ``None``: then ``json.loads`` has the word.
    ///
    /// Returns:
    ///     The value in a tuple.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(content) = &self.content else {
            return Ok(None);
        };
        let content = content.read(py)?;
        let content = without_spaces(content.as_bytes(py));
        // As json.detect_encoding() would have it.
        let is_ascii = content.first().is_some_and(u8::is_ascii);
        if !is_ascii || content.iter().take(4).any(|byte| *byte == 0) {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(content) else {
            return Ok(None);
        };
        let text = PyString::new(py, text);
        let Ok(scanned) = names::json_scanner(py)?.call1((&text, 0)) else {
            return Ok(None);
        };
        let scanned = scanned.cast_into::<PyTuple>()?;
        let end: usize = scanned.get_item(1)?.extract()?;
        if end != text.len()? {
            return Ok(None);
        }
        Ok(Some(scanned))
    }

    /// The status, a number.
    #[getter]
    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The reason phrase of the server, or the usual one.
    #[getter]
    fn reason<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        match &self.head.reason {
            Some(reason) => text(py, reason),
            None => PyString::new(py, self.head.status.canonical_reason().unwrap_or_default()),
        }
    }

    /// What was requested at last.
    #[getter]
    fn url(&self) -> &str {
        self.head.url.as_str()
    }

    /// `HTTP/1.1`, `HTTP/2` or `HTTP/1.0`.
    #[getter]
    fn http_version(&self) -> &'static str {
        match self.head.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }

    /// The headers: pairs of names in lower case and values.
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        pairs(py, &self.head.headers)
    }

    /// The content; ``None`` if it is a stream.
    fn content<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let content = self.content.as_ref();
        content.map(|content| content.object(py)).transpose()
    }

    /// The stream of the content.
    #[getter]
    fn stream(&self, py: Python<'_>) -> Option<Py<ContentStream>> {
        self.stream.as_ref().map(|stream| stream.clone_ref(py))
    }

    /// The redirects that led here, without their content.
    fn history(&self, py: Python<'_>) -> Vec<Py<ResponseData>> {
        self.history.iter().map(|head| head.clone_ref(py)).collect()
    }

    /// How long each phase took, in seconds; ``None`` for what did not happen.
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        timings_by_name(py, &self.timings)
    }
}

/// How long each phase took, in seconds; `None` for what did not happen.
pub(super) fn timings_by_name<'py>(
    py: Python<'py>,
    timings: &Timings,
) -> PyResult<Bound<'py, PyDict>> {
    let phases = [
        ("start", Some(timings.start)),
        ("pool", timings.pool),
        ("resolve", timings.resolve),
        ("connect", timings.connect),
        ("tls", timings.tls),
        ("head", timings.head),
        ("content", timings.content),
        ("total", Some(timings.total)),
    ];
    let result = PyDict::new(py);
    for (name, duration) in phases {
        result.set_item(name, duration.map(|duration| duration.as_secs_f64()))?;
    }
    result.set_item("reused", timings.is_reused)?;
    Ok(result)
}
