//! A case: files, and what happens to a director under them. Kept as a file of JSON that says all of it, so that a case
//! means the same however the grammar changes.

use serde_json::{Value, json};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) workers: usize,
    /// Whether frames of a flow come in at any worker.
    pub(super) flows_move: bool,
    /// By how much the clock of each worker is ahead of that of the one before.
    pub(super) skew_ms: u64,
    /// Whether control takes what is for it.
    pub(super) has_control: bool,
    pub(super) files: Vec<String>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Frames that a worker takes from a port at once.
    Burst { worker: usize, port: usize, frames: Vec<Arrival> },
    /// The file with this number comes into force.
    Reload(usize),
    /// VRRP becomes master of everything, or backup.
    Master(bool),
    /// Milliseconds pass.
    Pass(u64),
    /// The pool runs dry, or has buffers again.
    Dry(bool),
}

/// A frame that comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) bytes: Vec<u8>,
    /// Bytes in the first segment.
    pub(super) first: usize,
}

impl Case {
    /// As a file.
    pub(super) fn to_json(&self, seed: u64, fault: &str) -> String {
        let steps: Vec<Value> = self.steps.iter().map(Step::to_json).collect();
        let case = json!({
            "seed": format!("{seed:#x}"),
            "fault": fault.lines().collect::<Vec<_>>(),
            "workers": self.workers,
            "flows_move": self.flows_move,
            "skew_ms": self.skew_ms,
            "has_control": self.has_control,
            "files": self.files.iter().map(|file| file.lines().collect::<Vec<_>>()).collect::<Vec<_>>(),
            "steps": steps,
        });
        format!("{case:#}\n")
    }

    /// Out of a file.
    pub(super) fn from_json(text: &str) -> Self {
        let case: Value = serde_json::from_str(text).expect("JSON");
        let lines = |file: &Value| {
            let lines = file.as_array().expect("lines").iter().map(|line| line.as_str().expect("a line"));
            lines.collect::<Vec<_>>().join("\n")
        };
        Self {
            workers: number(&case["workers"]),
            flows_move: case["flows_move"].as_bool().expect("true or false"),
            skew_ms: number(&case["skew_ms"]) as u64,
            has_control: case["has_control"].as_bool().expect("true or false"),
            files: case["files"].as_array().expect("files").iter().map(lines).collect(),
            steps: case["steps"].as_array().expect("steps").iter().map(Step::from_json).collect(),
        }
    }

    /// The case with as little as still `fails`: steps, then frames of bursts, are left out.
    pub(super) fn shrunk(mut self, mut fails: impl FnMut(&Case) -> bool) -> Self {
        loop {
            let before = self.clone();
            let steps = without_most(self.steps.clone(), |steps| {
                fails(&Case { steps: steps.to_vec(), ..self.clone() })
            });
            self.steps = steps;
            for at in 0..self.steps.len() {
                let Step::Burst { worker, port, frames } = self.steps[at].clone() else { continue };
                let of = |frames: &[Arrival]| {
                    let mut case = self.clone();
                    case.steps[at] = Step::Burst { worker, port, frames: frames.to_vec() };
                    case
                };
                let frames = without_most(frames, |frames| fails(&of(frames)));
                self = of(&frames);
            }
            if self == before {
                return self.with_files_in_use();
            }
        }
    }

    /// Leaves out the files that never come into force.
    fn with_files_in_use(mut self) -> Self {
        let mut files = vec![self.files.first().cloned().unwrap_or_default()];
        let mut numbers = vec![0];
        for step in &mut self.steps {
            let Step::Reload(file) = step else { continue };
            let number = numbers.iter().position(|number| number == file).unwrap_or(files.len());
            if number == files.len() {
                files.push(self.files[*file].clone());
                numbers.push(*file);
            }
            *file = number;
        }
        self.files = files;
        self
    }
}

/// Leaves out as many items as it can, in ever smaller runs, while what is left `fails`.
fn without_most<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut run = items.len().div_ceil(2);
    while run > 0 {
        let mut at = 0;
        while at < items.len() {
            let mut fewer = items.clone();
            fewer.drain(at..(at + run).min(items.len()));
            if fails(&fewer) {
                items = fewer;
            } else {
                at += run;
            }
        }
        run /= 2;
    }
    items
}

impl Step {
    fn to_json(&self) -> Value {
        match self {
            Self::Burst { worker, port, frames } => {
                let frames: Vec<String> = frames.iter().map(Arrival::to_text).collect();
                json!({ "burst": frames, "worker": worker, "port": port })
            }
            Self::Reload(file) => json!({ "reload": file }),
            Self::Master(is_master) => json!({ "master": is_master }),
            Self::Pass(millis) => json!({ "pass_ms": millis }),
            Self::Dry(is_dry) => json!({ "dry": is_dry }),
        }
    }

    fn from_json(step: &Value) -> Self {
        if let Some(frames) = step["burst"].as_array() {
            let frames = frames.iter().map(|frame| Arrival::from_text(frame.as_str().expect("a frame")));
            let (worker, port) = (number(&step["worker"]), number(&step["port"]));
            Self::Burst { worker, port, frames: frames.collect() }
        } else if let Some(file) = step["reload"].as_u64() {
            Self::Reload(file as usize)
        } else if let Some(millis) = step["pass_ms"].as_u64() {
            Self::Pass(millis)
        } else if let Some(is_master) = step["master"].as_bool() {
            Self::Master(is_master)
        } else {
            Self::Dry(step["dry"].as_bool().expect("a step"))
        }
    }
}

impl Arrival {
    /// Hexadecimal, with `|` between the segments.
    fn to_text(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (first, rest) = self.bytes.split_at(self.first);
        if rest.is_empty() { hex(first) } else { format!("{}|{}", hex(first), hex(rest)) }
    }

    fn from_text(text: &str) -> Self {
        let bytes = |hex: &str| {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
            (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>()
        };
        let (first, rest) = text.split_once('|').unwrap_or((text, ""));
        let mut whole = bytes(first);
        let first = whole.len();
        whole.extend(bytes(rest));
        Self { bytes: whole, first }
    }
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a number") as usize
}

#[test]
fn a_case_is_the_same_after_a_file() {
    let frames = vec![Arrival { bytes: vec![1, 0xab, 3], first: 2 }, Arrival { bytes: vec![9], first: 1 }];
    let burst = Step::Burst { worker: 1, port: 0, frames };
    let steps = vec![burst, Step::Reload(1), Step::Master(true), Step::Pass(7), Step::Dry(false)];
    let files = vec!["a = 1\nb = 2".to_owned(), "c = \"x\"".to_owned()];
    let case = Case { workers: 2, flows_move: true, skew_ms: 1, has_control: true, files, steps };
    assert_eq!(Case::from_json(&case.to_json(0xbee, "why\nand where")), case);
}

#[test]
fn of_a_case_what_does_not_matter_is_left_out() {
    let frame = |byte| Arrival { bytes: vec![byte], first: 1 };
    let burst =
        |bytes: std::ops::Range<u8>| Step::Burst { worker: 0, port: 0, frames: bytes.map(frame).collect() };
    let steps = vec![Step::Pass(1), burst(0..9), Step::Reload(2), burst(3..30), Step::Reload(1)];
    let files = ["a", "b", "c"].map(str::to_owned).to_vec();
    let case = Case { workers: 1, flows_move: false, skew_ms: 0, has_control: false, files, steps };
    let fails = |case: &Case| {
        let has = |byte| {
            let holds =
                |step: &Step| matches!(step, Step::Burst { frames, .. } if frames.contains(&frame(byte)));
            case.steps.iter().any(holds)
        };
        has(17) && case.steps.contains(&Step::Reload(2))
    };
    let small = case.shrunk(fails);
    assert_eq!(small.steps, [Step::Reload(1), burst(17..18)]);
    assert_eq!(small.files, ["a", "c"]);
}
