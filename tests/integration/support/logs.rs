//! What the operator is warned of. Tests run beside each other in one process: each looks for its own folder or path in the lines.

use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;

/// Gathers warnings from now on; called before the proxy starts.
pub fn gather_warnings() {
    lines();
}

/// The warnings so far that say all of these words.
pub fn warnings_with(words: &[&str]) -> Vec<String> {
    let gathered = String::from_utf8_lossy(&lines().lock()).into_owned();
    let says_all = |line: &&str| words.iter().all(|word| line.contains(word));
    gathered.lines().filter(says_all).map(str::to_owned).collect()
}

type Lines = Arc<Mutex<Vec<u8>>>;

fn lines() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let lines = Lines::default();
        let writer = Writer(Arc::clone(&lines));
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        lines
    })
}

#[derive(Clone)]
struct Writer(Lines);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
