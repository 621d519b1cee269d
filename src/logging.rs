//! How do lines for people and machines come out? Set up once, at start-up; what they say is up to those who write them.
//!
//! Everything goes to standard error: standard output belongs to the commands.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Starts the log of this process: once.
///
/// # Errors
/// There is a log already, or the level is no filter, which a loaded configuration rules out.
pub fn start(log: &Log) -> anyhow::Result<()> {
    lines(log, io::stderr, io::stderr().is_terminal())?.try_init().context("the log has been started already")
}

/// Text in one line each, or JSON objects with the fields beside the message.
fn lines<W>(log: &Log, writer: W, is_terminal: bool) -> anyhow::Result<Box<dyn Subscriber + Send + Sync>>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level: {}", log.level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // On a terminal the library decides: it knows NO_COLOR.
    let lines = if is_terminal { lines } else { lines.with_ansi(false) };
    Ok(match log.format {
        LogFormat::Text => Box::new(lines.compact().finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value as Json;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What comes out when one line each is written at info and at debug.
    fn written(level: &str, format: LogFormat) -> String {
        let log = Log { level: level.to_owned(), format, ..Log::default() };
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = lines(&log, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(pages = 7, "read the journal");
            tracing::debug!("a detail");
        });
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_one_plain_line() {
        let text = written("info", LogFormat::Text);
        let (_time, line) = text.split_once(' ').unwrap();
        assert_eq!(line, " INFO everpage::logging::tests: read the journal pages=7\n");
    }

    #[test]
    fn json_has_its_fields_beside_the_message() {
        let object: Json = serde_json::from_str(&written("info", LogFormat::Json)).unwrap();
        assert_eq!(
            (&object["level"], &object["message"], &object["pages"]),
            (&"INFO".into(), &"read the journal".into(), &7.into())
        );
    }

    #[test]
    fn a_filter_chooses_modules() {
        assert!(written("debug", LogFormat::Text).contains("a detail"));
        assert!(written("warn,everpage::logging=debug", LogFormat::Text).contains("a detail"));
        assert_eq!(written("off", LogFormat::Text), "");
    }

    #[test]
    fn a_level_that_is_none_is_an_error() {
        let log = Log { level: "everpage=loud".to_owned(), ..Log::default() };
        assert_eq!(start(&log).unwrap_err().to_string(), "log.level: everpage=loud");
    }
}
