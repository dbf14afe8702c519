//! Progress on standard error: bars on a terminal, a line now and then in a log, JSON lines for
//! machines. Shown bytes never go backwards.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::args::ProgressMode;
use super::report::bytes;
use crate::content::{Quiet, Stage, Watch};
use crate::error::printable;

/// Between two lines in a log.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);
/// Between two JSON lines.
const JSON_PAUSE: Duration = Duration::from_millis(500);
/// Bars shown at once besides the total.
const BARS: usize = 10;

/// The watcher for a mode.
pub fn watcher(mode: ProgressMode) -> Arc<dyn Watch> {
    match mode {
        // Bars need a terminal to be drawn on, even if they were asked for.
        ProgressMode::Auto | ProgressMode::Tty if std::io::stderr().is_terminal() => Arc::new(Bars::new()),
        ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain => {
            Arc::new(Lines::new(Form::Plain, PLAIN_PAUSE))
        }
        ProgressMode::Json => Arc::new(Lines::new(Form::Json, JSON_PAUSE)),
        ProgressMode::None => Arc::new(Quiet),
    }
}

/// One line on standard error. Nobody reading it is no reason to fail.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Bars: one per image that moves, and the total.
struct Bars {
    all: MultiProgress,
    now: Mutex<Option<Drawn>>,
}

struct Drawn {
    stage: Stage,
    total: ProgressBar,
    parts: BTreeMap<usize, ProgressBar>,
    done: Vec<u64>,
}

impl Bars {
    fn new() -> Self {
        // Five times a second: enough for the eye, kind to a serial console.
        let target = ProgressDrawTarget::stderr_with_hz(5);
        Bars { all: MultiProgress::with_draw_target(target), now: Mutex::default() }
    }

    fn bar(&self, length: u64, name: &str, template: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        // Nothing may draw before the bar is among the others, or it leaves a stray line.
        ProgressBar::new(length)
            .with_style(style.progress_chars("=> "))
            .with_prefix(printable(name).into_owned())
    }
}

const TOTAL: &str = "{prefix:>18!} [{bar:14}] {decimal_bytes:>9}/{decimal_total_bytes:>9} {decimal_bytes_per_sec:>12} {eta:>4}";
const PART: &str = "{prefix:>18!} [{bar:14}] {decimal_bytes:>9}/{decimal_total_bytes:>9}";

impl Watch for Bars {
    fn stage(&self, stage: Stage) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drawn) = now.take() {
            drawn.clear(&self.all);
        }
        let length = stage.parts.iter().map(|(_, bytes)| bytes).sum();
        let total = self.all.add(self.bar(length, stage.verb, TOTAL));
        total.enable_steady_tick(Duration::from_millis(500));
        let done = vec![0; stage.parts.len()];
        *now = Some(Drawn { stage, total, parts: BTreeMap::new(), done });
    }

    fn moved(&self, part: usize, count: u64) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(drawn) = now.as_mut() else { return };
        drawn.total.inc(count);
        let (Some((name, length)), Some(done)) = (drawn.stage.parts.get(part), drawn.done.get_mut(part))
        else {
            return;
        };
        *done += count;
        let single = drawn.stage.parts.len() == 1;
        if !single && !drawn.parts.contains_key(&part) && drawn.parts.len() < BARS && *done < *length {
            let bar = self.all.insert_before(&drawn.total, self.bar(*length, name, PART));
            drawn.parts.insert(part, bar);
        }
        let (finished, position) = (*done >= *length, *done);
        if let Some(bar) = drawn.parts.get(&part) {
            bar.set_position(position);
        }
        if finished && let Some(bar) = drawn.parts.remove(&part) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    fn note(&self, text: &str) {
        self.all.suspend(|| line(&format!("note: {}", printable(text))));
    }
}

impl Drawn {
    fn clear(self, all: &MultiProgress) {
        for bar in self.parts.into_values().chain([self.total]) {
            bar.finish_and_clear();
            all.remove(&bar);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some(drawn) = self.now.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drawn.clear(&self.all);
        }
    }
}

#[derive(Clone, Copy)]
enum Form {
    Plain,
    Json,
}

/// Lines: a line when a stage begins, now and then, and when it ends.
struct Lines {
    form: Form,
    pause: Duration,
    now: Mutex<Option<Counted>>,
}

struct Counted {
    verb: &'static str,
    total: u64,
    done: u64,
    began: Instant,
    said: Instant,
    complete: bool,
}

impl Lines {
    fn new(form: Form, pause: Duration) -> Self {
        Lines { form, pause, now: Mutex::default() }
    }

    fn say(&self, counted: &Counted) {
        let seconds = counted.began.elapsed().as_secs_f64();
        let rate = if seconds > 0.0 { counted.done as f64 / seconds } else { 0.0 };
        let left = counted.total.saturating_sub(counted.done);
        let eta = if rate > 0.0 { Some((left as f64 / rate).ceil() as u64) } else { None };
        match self.form {
            Form::Plain => line(&plain(counted, rate as u64, eta)),
            Form::Json => line(
                &json!({
                    "event": "progress", "verb": counted.verb, "bytes": counted.done, "total": counted.total,
                    "bytesPerSecond": rate as u64, "etaSeconds": eta,
                })
                .to_string(),
            ),
        }
    }
}

fn plain(counted: &Counted, rate: u64, eta: Option<u64>) -> String {
    let (done, total) = (counted.done, counted.total);
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100).min(100);
    let mut text = format!("{}: {} of {} ({percent} %)", counted.verb, bytes(done), bytes(total));
    if done > 0 {
        text += &format!(", {}/s", bytes(rate));
    }
    match eta {
        Some(eta) if done < total => text + &format!(", {eta} s left"),
        _ => text,
    }
}

impl Watch for Lines {
    fn stage(&self, stage: Stage) {
        let now = Instant::now();
        let total = stage.parts.iter().map(|(_, bytes)| bytes).sum();
        let counted =
            Counted { verb: stage.verb, total, done: 0, began: now, said: now, complete: total == 0 };
        if total > 0 {
            self.say(&counted);
        }
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
    }

    fn moved(&self, _: usize, count: u64) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counted) = now.as_mut() else { return };
        counted.done += count;
        let complete = counted.done >= counted.total && !counted.complete;
        if complete || counted.said.elapsed() >= self.pause {
            counted.complete |= complete;
            counted.said = Instant::now();
            self.say(counted);
        }
    }

    fn note(&self, text: &str) {
        match self.form {
            Form::Plain => line(&format!("note: {}", printable(text))),
            Form::Json => line(&json!({ "event": "note", "text": text }).to_string()),
        }
    }
}
