//! Writes down who asked for what, without ever making the loop wait.
//!
//! Lines are written by a thread of their own behind a bounded queue. A terminal
//! or a pipe that does not take them costs lines, which are counted and reported,
//! never requests.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode, Uri, Version};

/// Lines that may wait for the writer: about a second of a busy server.
const WAITING_LINES: usize = 16 * 1024;

/// The largest part of an unparsed request line that is written down.
const LONGEST_RAW_LINE_BYTES: usize = 512;

/// One line's facts.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) peer: Arc<str>,
    pub(crate) time: SystemTime,
    pub(crate) request: RequestLine,
    pub(crate) status: StatusCode,
    pub(crate) bytes: u64,
    pub(crate) duration: Duration,
}

/// What was asked for, as far as it could be parsed.
#[derive(Debug)]
pub(crate) enum RequestLine {
    Parsed(Method, Uri, Version),
    Raw(Box<[u8]>),
}

/// Writes lines in the style of the combined log format.
///
/// `peer - - [time] "METHOD target HTTP/1.1" status bytes duration_ms`
#[derive(Debug)]
pub struct AccessLog {
    entries: Option<SyncSender<Entry>>,
    lost_lines: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl AccessLog {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    ///
    /// When the thread can't be started.
    pub fn new(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (entries, waiting) = sync_channel(WAITING_LINES);
        let lost_lines = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&lost_lines);
        let writer = std::thread::Builder::new()
            .name("carboy-access-log".to_owned())
            .spawn(move || write_lines(&waiting, output, &lost))?;
        Ok(Self {
            entries: Some(entries),
            lost_lines,
            writer: Some(writer),
        })
    }

    /// Lines that were dropped because the output was too slow.
    pub fn lost_lines(&self) -> u64 {
        self.lost_lines.load(Ordering::Relaxed)
    }

    pub(crate) fn record(&self, entry: Entry) {
        let Some(entries) = &self.entries else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = entries.try_send(entry)
        {
            self.lost_lines.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AccessLog {
    /// Waits until every line is written.
    fn drop(&mut self) {
        drop(self.entries.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to say.
            drop(writer.join());
        }
    }
}

impl RequestLine {
    /// The first line of bytes that are not a request.
    pub(crate) fn raw(head: &[u8]) -> Self {
        let line = head
            .split(|byte| matches!(byte, b'\r' | b'\n'))
            .next()
            .unwrap_or_default();
        let shown = line.get(..LONGEST_RAW_LINE_BYTES).unwrap_or(line);
        Self::Raw(shown.into())
    }
}

fn write_lines(waiting: &Receiver<Entry>, mut output: impl Write, lost_lines: &AtomicU64) {
    let mut lines = String::new();
    let mut reported = 0;
    while let Ok(entry) = waiting.recv() {
        lines.clear();
        write_line(&mut lines, &entry);
        // One write for all that waits: a terminal is slow per call.
        while lines.len() < 64 * 1024
            && let Ok(entry) = waiting.try_recv()
        {
            write_line(&mut lines, &entry);
        }
        let lost = lost_lines.load(Ordering::Relaxed);
        if lost != reported {
            push(
                &mut lines,
                format_args!("# {} lines lost\n", lost - reported),
            );
            reported = lost;
        }
        // There is nobody to tell that the log can't be written: keep emptying
        // the queue, so that a full disk that is freed again gets lines again.
        drop(
            output
                .write_all(lines.as_bytes())
                .and_then(|()| output.flush()),
        );
    }
}

fn write_line(lines: &mut String, entry: &Entry) {
    push(lines, format_args!("{} - - [", entry.peer));
    write_time(lines, entry.time);
    lines.push_str("] \"");
    match &entry.request {
        RequestLine::Parsed(method, target, version) => {
            escape(lines, method.as_str().as_bytes());
            lines.push(' ');
            escape(lines, target.to_string().as_bytes());
            push(lines, format_args!(" {version:?}"));
        }
        RequestLine::Raw(line) => escape(lines, line),
    }
    let milliseconds = entry.duration.as_secs_f64() * 1000.0;
    let (status, bytes) = (entry.status.as_u16(), entry.bytes);
    push(
        lines,
        format_args!("\" {status} {bytes} {milliseconds:.3}\n"),
    );
}

/// Appends bytes a peer sent, so that they can neither break out of the quotes
/// nor reach the terminal as a control sequence.
fn escape(lines: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                lines.push('\\');
                lines.push(char::from(byte));
            }
            0x20..=0x7e => lines.push(char::from(byte)),
            _ => push(lines, format_args!("\\x{byte:02x}")),
        }
    }
}

/// Appends `23/Nov/2026:05:54:46 +0000`.
fn write_time(lines: &mut String, time: SystemTime) {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    // Days are counted in eras of 400 years that begin on a first of March, so
    // that the leap day is the last day of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 2
    } else {
        shifted_month - 10
    };
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let name = usize::try_from(month)
        .ok()
        .and_then(|month| MONTHS.get(month))
        .unwrap_or(&"");
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    push(
        lines,
        format_args!("{day:02}/{name}/{year}:{hour:02}:{minute:02}:{second:02} +0000"),
    );
}

fn push(lines: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String can't fail.
    let _ = lines.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(request: RequestLine, seconds: u64) -> String {
        let mut lines = String::new();
        let entry = Entry {
            peer: "192.0.2.1:4711".into(),
            time: UNIX_EPOCH + Duration::from_secs(seconds),
            request,
            status: StatusCode::OK,
            bytes: 12,
            duration: Duration::from_micros(1500),
        };
        write_line(&mut lines, &entry);
        lines
    }

    #[test]
    fn line_has_the_combined_shape() {
        let request =
            RequestLine::Parsed(Method::GET, Uri::from_static("/a?b=c"), Version::HTTP_11);
        assert_eq!(
            line(request, 1_795_413_286),
            "192.0.2.1:4711 - - [23/Nov/2026:05:54:46 +0000] \"GET /a?b=c HTTP/1.1\" 200 12 1.500\n"
        );
    }

    #[test]
    fn dates_around_leap_days_are_right() {
        for (seconds, date) in [
            (0, "01/Jan/1970:00:00:00"),
            (951_782_400, "29/Feb/2000:00:00:00"),
            (951_868_800, "01/Mar/2000:00:00:00"),
            (1_709_251_199, "29/Feb/2024:23:59:59"),
            (4_107_542_399, "28/Feb/2100:23:59:59"),
            (4_107_542_400, "01/Mar/2100:00:00:00"),
        ] {
            let text = line(RequestLine::raw(b"x"), seconds);
            assert!(text.contains(date), "{text} should contain {date}");
        }
    }

    #[test]
    fn peer_bytes_are_escaped() {
        let text = line(
            RequestLine::raw(b"GET /\x1b[31m\"\\\xff\x07 HTTP/1.1\r\nHost: a"),
            0,
        );
        assert!(
            text.contains(r#""GET /\x1b[31m\"\\\xff\x07 HTTP/1.1" 200"#),
            "{text}"
        );
    }

    #[test]
    fn raw_lines_are_cut() {
        let text = line(RequestLine::raw(&[b'a'; 10_000]), 0);
        assert!(text.len() < 700);
    }
}
