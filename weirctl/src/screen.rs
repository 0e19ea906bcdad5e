//! What answers look like: aligned columns, short numbers, and colours on a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

/// Where text goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// Columns; `None`: no terminal, so as many as are needed.
    pub(crate) width: Option<usize>,
    /// Lines of the terminal.
    pub(crate) height: Option<usize>,
    is_coloured: bool,
}

/// What a text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Title,
    Good,
    Bad,
}

impl Screen {
    /// stdout.
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let size = is_terminal.then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
        let of_terminal = |size: Option<u16>, usual| {
            let known = size.map(usize::from).filter(|&it| it > 0);
            is_terminal.then(|| known.unwrap_or(usual))
        };
        let width = of_terminal(size.map(|size| size.ws_col), 80);
        let height = of_terminal(size.map(|size| size.ws_row), 24);
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        Self { width, height, is_coloured: is_terminal && !wants_none }
    }

    /// A place without colours, so wide.
    #[cfg(test)]
    pub(crate) fn plain(width: Option<usize>) -> Self {
        Self { width, height: None, is_coloured: false }
    }

    /// Whether colours are wanted.
    pub(crate) fn is_coloured(&self) -> bool {
        self.is_coloured
    }

    /// `text` in its colour, if there are colours.
    pub(crate) fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Title => 1,
            Tone::Good => 32,
            Tone::Bad => 31,
        };
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A column of a [`Table`].
pub(crate) struct Column {
    title: &'static str,
    is_right: bool,
    /// Left out where there is not enough room: the highest first. 0: never.
    spare: u8,
}

impl Column {
    pub(crate) const fn left(title: &'static str) -> Self {
        Self { title, is_right: false, spare: 0 }
    }

    pub(crate) const fn right(title: &'static str) -> Self {
        Self { title, is_right: true, spare: 0 }
    }

    pub(crate) const fn spare(self, spare: u8) -> Self {
        Self { spare, ..self }
    }
}

/// Rows in columns.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<(String, Tone)>) {
        self.rows.push(cells);
    }

    pub(crate) fn plain(&mut self, cells: Vec<String>) {
        self.row(cells.into_iter().map(|cell| (cell, Tone::Plain)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, without blanks at the ends of lines.
    pub(crate) fn render(&self, screen: &Screen) -> String {
        let length = |text: &str| text.chars().count();
        let width = |place: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(place)).map(|(text, _)| length(text));
            cells.chain([length(self.columns[place].title)]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let total = |shown: &[usize]| shown.iter().map(|&place| widths[place] + 2).sum::<usize>();
        while screen.width.is_some_and(|width| total(&shown) > width + 2) {
            let most = shown.iter().copied().max_by_key(|&place| self.columns[place].spare);
            match most.filter(|&place| self.columns[place].spare > 0) {
                Some(place) => shown.retain(|&it| it != place),
                None => break,
            }
        }
        let mut text = String::new();
        let title = self.columns.iter().map(|column| (column.title.to_owned(), Tone::Title)).collect();
        for row in [&title].into_iter().chain(&self.rows) {
            let mut line = String::new();
            let mut blanks = 0;
            for &place in &shown {
                let empty = (String::new(), Tone::Plain);
                let (cell, tone) = row.get(place).unwrap_or(&empty);
                let room = widths[place] - length(cell);
                let before = if self.columns[place].is_right { room } else { 0 };
                if !cell.is_empty() {
                    let _ =
                        write!(line, "{:blanks$}{}", "", screen.paint(cell, *tone), blanks = blanks + before);
                    blanks = 0;
                } else {
                    blanks += before;
                }
                blanks += room - before + 2;
            }
            text += &line;
            text.push('\n');
        }
        text
    }
}

/// A number in five columns at most: `9999`, `10.0k`, `999k`, `1.23M`.
pub(crate) fn short(number: u64) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    let mut value = number as f64;
    for unit in ["", "k", "M", "G", "T", "P"] {
        // What would be rounded up to 1000 belongs to the next unit.
        if value < 999.5 {
            let digits = if value < 9.995 {
                2
            } else if value < 99.95 {
                1
            } else {
                0
            };
            return format!("{value:.digits$}{unit}");
        }
        value /= 1_000.0;
    }
    format!("{value:.0}E")
}

/// A time in words of two units at most: `3 d 4 h`.
pub(crate) fn time(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cut_to_five_columns() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (99_949, "99.9k"),
            (99_951, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18E"),
        ] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in
            [(0.9, "0 s"), (61.0, "1 min 1 s"), (3_600.0, "1 h 0 min"), (273_600.0, "3 d 4 h"), (-1.0, "0 s")]
        {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn columns_align_and_spare_ones_go_first() {
        let mut table = Table::new(vec![
            Column::left("NAME"),
            Column::right("WEIGHT"),
            Column::right("IN").spare(1),
            Column::right("OUT").spare(2),
        ]);
        table.plain(["web", "1", "22", "333"].map(str::to_owned).to_vec());
        table.plain(["a longer one", "10"].map(str::to_owned).to_vec());
        let all = "NAME          WEIGHT  IN  OUT\nweb                1  22  333\na longer one      10\n";
        assert_eq!(table.render(&Screen::plain(None)), all);
        assert_eq!(table.render(&Screen::plain(Some(29))), all);
        let fewer = "NAME          WEIGHT  IN\nweb                1  22\na longer one      10\n";
        assert_eq!(table.render(&Screen::plain(Some(28))), fewer);
        let least = "NAME          WEIGHT\nweb                1\na longer one      10\n";
        assert_eq!(table.render(&Screen::plain(Some(5))), least);
    }
}
