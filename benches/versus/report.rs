//! What was measured, as tables for people and as JSON for programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::measure::Cost;

/// What became of one contestant in one step.
#[derive(Default)]
pub struct Row {
    /// One for each run that counts.
    pub costs: Vec<Cost>,
    /// Why there are no more.
    pub failure: Option<String>,
}

impl Row {
    /// What a run gave; the first one warms up.
    pub fn add(&mut self, round: u32, outcome: std::result::Result<Cost, String>) {
        match outcome {
            Ok(cost) if round > 0 => self.costs.push(cost),
            Ok(_) => {}
            Err(failure) => self.failure = Some(failure),
        }
    }

    fn of(&self, what: impl Fn(&Cost) -> f64) -> Vec<f64> {
        let mut numbers: Vec<f64> = self.costs.iter().map(what).collect();
        numbers.sort_by(f64::total_cmp);
        numbers
    }

    fn median(&self, what: impl Fn(&Cost) -> f64) -> f64 {
        let numbers = self.of(what);
        let middle = numbers.len() / 2;
        let at = |place: usize| numbers.get(place).copied().unwrap_or(f64::NAN);
        if numbers.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
    }

    fn fits(&self) -> bool {
        self.failure.is_none() && !self.costs.is_empty()
    }
}

/// What is told of the runs of a step.
#[derive(Clone, Copy)]
pub enum Scale {
    /// How long they took.
    Carry,
    /// How much flowed.
    Flow {
        /// Of what.
        unit: &'static str,
        /// How many thousands in a run.
        thousands: f64,
    },
}

/// One step: the contestants in their order.
pub struct Table {
    /// What was done.
    pub step: &'static str,
    /// What is told of it.
    pub scale: Scale,
    /// Names and results.
    pub rows: Vec<(&'static str, Row)>,
}

impl Table {
    fn reference(&self) -> Option<f64> {
        let sealift = self.rows.iter().find(|(name, row)| *name == "sealift" && row.fits());
        sealift.map(|(_, row)| row.median(|cost| cost.wall))
    }

    /// Why a contestant has no time here.
    pub fn failure_of(&self, name: &str) -> Option<&str> {
        self.rows.iter().find(|row| row.0 == name)?.1.failure.as_deref()
    }

    /// For people.
    pub fn print(&self) {
        println!("\n## {}\n", self.step);
        match self.scale {
            Scale::Carry => println!(
                "| | seconds (least–most) | ÷ sealift | CPU s | registry CPU s | memory MB | extra disk MB |\n\
                 |---|---|---|---|---|---|---|"
            ),
            Scale::Flow { unit, .. } => println!(
                "| | {unit} per second (least–most) | seconds ÷ sealift | server's CPU s per 1000 {unit} | \
                 server's memory MB |\n|---|---|---|---|---|"
            ),
        }
        for (name, row) in &self.rows {
            match (&row.failure, self.scale) {
                (Some(failure), _) => println!("| {name} | failed: {failure} | | | |"),
                (None, Scale::Carry) => self.print_row(name, row),
                (None, Scale::Flow { thousands, .. }) => self.print_flow(name, row, thousands),
            }
        }
    }

    fn ratio(&self, wall: f64) -> String {
        self.reference().map_or("–".to_owned(), |reference| format!("{:.2}", wall / reference))
    }

    fn print_flow(&self, name: &str, row: &Row, thousands: f64) {
        let walls = row.of(|cost| cost.wall);
        let rate = |wall: f64| thousands * 1e3 / wall;
        println!(
            "| {name} | {:.0} ({:.0}–{:.0}) | {} | {:.3} | {:.0} |",
            rate(row.median(|cost| cost.wall)),
            rate(walls.last().copied().unwrap_or(f64::NAN)),
            rate(walls.first().copied().unwrap_or(f64::NAN)),
            self.ratio(row.median(|cost| cost.wall)),
            row.median(|cost| cost.registry_cpu) / thousands,
            row.median(|cost| cost.memory as f64) / 1e6,
        );
    }

    fn print_row(&self, name: &str, row: &Row) {
        let walls = row.of(|cost| cost.wall);
        let (least, most) = (walls.first().copied(), walls.last().copied());
        let wall = row.median(|cost| cost.wall);
        println!(
            "| {name} | {wall:.2} ({:.2}–{:.2}) | {} | {:.2} | {:.2} | {:.0} | {:.0} |",
            least.unwrap_or(f64::NAN),
            most.unwrap_or(f64::NAN),
            self.ratio(wall),
            row.median(|cost| cost.cpu),
            row.median(|cost| cost.registry_cpu),
            row.median(|cost| cost.memory as f64) / 1e6,
            row.median(|cost| cost.extra_disk as f64) / 1e6,
        );
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let reference = self.reference();
        let row = |(name, row): &(&str, Row)| {
            let wall = row.median(|cost| cost.wall);
            json!({
                "name": name,
                "failure": row.failure,
                "medians": if row.fits() { medians(row) } else { Value::Null },
                "ratio": reference.filter(|_| row.fits()).map(|reference| wall / reference),
                "runs": row.costs.iter().map(cost).collect::<Vec<_>>(),
            })
        };
        let flow = match self.scale {
            Scale::Carry => Value::Null,
            Scale::Flow { unit, thousands } => json!({ "unit": unit, "amount": thousands * 1e3 }),
        };
        json!({ "step": self.step, "flow": flow, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

fn medians(row: &Row) -> Value {
    cost(&Cost {
        wall: row.median(|cost| cost.wall),
        cpu: row.median(|cost| cost.cpu),
        memory: row.median(|cost| cost.memory as f64) as u64,
        extra_disk: row.median(|cost| cost.extra_disk as f64) as u64,
        registry_cpu: row.median(|cost| cost.registry_cpu),
    })
}

fn cost(cost: &Cost) -> Value {
    json!({
        "wallSeconds": cost.wall,
        "cpuSeconds": cost.cpu,
        "registryCpuSeconds": cost.registry_cpu,
        "memoryBytes": cost.memory,
        "extraDiskBytes": cost.extra_disk,
    })
}

/// The first line that each program says of its version.
pub fn versions(programs: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, String> {
    programs.map(|program| (program, version(program))).collect()
}

/// The first line that a program says of its version.
pub fn version(program: &str) -> String {
    // Not everybody takes --version; some say it among other things.
    for argument in ["--version", "version", "-v"] {
        let output = std::process::Command::new(program).arg(argument).output();
        let Ok(output) = output else { break };
        if output.status.success() {
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            return text.lines().next().unwrap_or_default().trim().to_owned();
        }
    }
    "unknown".to_owned()
}
