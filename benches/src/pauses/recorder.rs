//! What passes took, by step and number, over several runs.

use anyhow::{Result, ensure};

use crate::LIMIT_MICROS;

/// Times of the same passes, several times over.
#[derive(Default)]
pub(crate) struct Recorder {
    steps: Vec<Step>,
    /// Where the present run is: the step and the pass in it.
    step: usize,
    pass: usize,
}

struct Step {
    name: String,
    /// The least time of each pass so far, in nanoseconds.
    floor: Vec<f32>,
    /// The longest pass of each run, in nanoseconds.
    longest: Vec<f32>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A run begins.
    pub(crate) fn begin(&mut self) {
        self.step = usize::MAX;
        self.pass = 0;
    }

    /// The next step of the run begins. The steps of all runs are the same.
    pub(crate) fn step(&mut self, name: &str) {
        self.step = self.step.wrapping_add(1);
        self.pass = 0;
        if self.step == self.steps.len() {
            self.steps.push(Step { name: name.to_owned(), floor: Vec::new(), longest: Vec::new() });
        }
        self.steps[self.step].longest.push(0.0);
    }

    /// A pass of the present step took this long.
    pub(crate) fn note(&mut self, nanos: f32) {
        let step = &mut self.steps[self.step];
        if let Some(longest) = step.longest.last_mut() {
            *longest = longest.max(nanos);
        }
        match step.floor.get_mut(self.pass) {
            Some(floor) => *floor = floor.min(nanos),
            None => step.floor.push(nanos),
        }
        self.pass += 1;
    }

    /// To be called at the end of a step: it has as many passes in each run, or no floor means anything.
    pub(crate) fn check(&self) -> Result<()> {
        let step = &self.steps[self.step];
        ensure!(
            step.longest.len() == 1 || step.floor.len() == self.pass,
            "{}: {} passes in this run, {} in the others",
            step.name,
            self.pass,
            step.floor.len()
        );
        Ok(())
    }

    /// The headings of [`Recorder::rows`].
    pub(crate) fn head() -> String {
        format!(
            "{:<58}{:>10}{:>9}{:>9}{:>9}{:>8}{:>10}{:>12}",
            "µs", "passes", "median", "99.99 %", "longest", "> 50", "pass no.", "as it was"
        )
    }

    /// A line for each step.
    pub(crate) fn rows(&self) -> impl Iterator<Item = String> + '_ {
        self.steps.iter().map(Step::row)
    }

    /// The longest floor of all steps.
    pub(crate) fn longest_micros(&self) -> f32 {
        self.steps.iter().map(|step| step.longest_floor().1 / 1e3).fold(0.0, f32::max)
    }
}

impl Step {
    fn longest_floor(&self) -> (usize, f32) {
        let floors = self.floor.iter().copied().enumerate();
        floors.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
    }

    fn row(&self) -> String {
        let mut sorted = self.floor.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).ceil() as usize] / 1e3;
        let over = sorted.iter().filter(|&&nanos| nanos > LIMIT_MICROS * 1e3).count();
        let mut runs = self.longest.clone();
        runs.sort_unstable_by(f32::total_cmp);
        format!(
            "  {:<56}{:>10}{:>9.2}{:>9.2}{:>9.2}{:>8}{:>10}{:>12.1}",
            self.name,
            sorted.len(),
            at(0.5),
            at(0.9999),
            at(1.0),
            over,
            self.longest_floor().0,
            runs[runs.len() / 2] / 1e3
        )
    }
}
