//! A stream of TCP of which some lines were given another length on the way.
//!
//! Its sequence numbers are shifted behind each such line. The last few lines are remembered, so that a segment that is sent again is
//! shifted as it was, and its lines are changed as they were.

use arrayvec::ArrayVec;

/// Lines that are remembered: more are never under way, since each answers a command of its own.
const SHIFTS: usize = 4;

/// A line that was changed. Sequence numbers are those of who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift {
    /// Of its first byte.
    pub start: u32,
    /// Of the first byte behind it.
    pub end: u32,
    /// How much is added to those from its end on.
    pub after: i32,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// How much is added before the first line that is remembered.
    before: i32,
    shifts: ArrayVec<Shift, SHIFTS>,
}

impl Stream {
    /// Whether sequence numbers are shifted anywhere.
    pub fn is_shifted(&self) -> bool {
        self.before != 0 || !self.shifts.is_empty()
    }

    /// How much is added to a sequence number of the sender's.
    pub fn added_at(&self, sequence: u32) -> i32 {
        let last = self.shifts.iter().rev().find(|shift| is_reached(sequence, shift.end));
        last.map_or(self.before, |shift| shift.after)
    }

    /// The sequence number of the sender's that the receiver means by one that it has seen. Within a changed line that is its
    /// beginning.
    pub fn meant_by(&self, seen: u32) -> u32 {
        for (number, shift) in self.shifts.iter().enumerate().rev() {
            if is_reached(seen, shift.end.wrapping_add_signed(shift.after)) {
                return seen.wrapping_add_signed(shift.after.wrapping_neg());
            }
            if is_reached(seen, shift.start.wrapping_add_signed(self.added_before(number))) {
                return shift.start;
            }
        }
        seen.wrapping_add_signed(self.before.wrapping_neg())
    }

    /// The lines that were changed, and by how much each.
    pub fn shifts(&self) -> impl Iterator<Item = (Shift, i32)> + '_ {
        let change = |number: usize, shift: &Shift| shift.after.wrapping_sub(self.added_before(number));
        self.shifts.iter().enumerate().map(move |(number, shift)| (*shift, change(number, shift)))
    }

    /// A line between these numbers, which lies behind all others, was made longer by so much.
    pub fn shift(&mut self, start: u32, end: u32, change: i32) {
        let after = self.added_before(self.shifts.len()).wrapping_add(change);
        if self.shifts.is_full() {
            self.before = self.shifts.remove(0).after;
        }
        self.shifts.push(Shift { start, end, after });
    }

    fn added_before(&self, number: usize) -> i32 {
        number.checked_sub(1).and_then(|last| self.shifts.get(last)).map_or(self.before, |shift| shift.after)
    }
}

/// Whether a sequence number is the other one or behind it, on a circle (RFC 9293 section 3.4).
pub fn is_reached(sequence: u32, other: u32) -> bool {
    sequence.wrapping_sub(other) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_behind_a_line_are_shifted_and_those_before_it_are_not() {
        let mut stream = Stream::default();
        assert!(!stream.is_shifted());
        stream.shift(1000, 1050, 3);
        stream.shift(1100, 1150, -5);
        let added = [999, 1000, 1049, 1050, 1149, 1150].map(|sequence| stream.added_at(sequence));
        assert_eq!(added, [0, 0, 0, 3, 3, -2]);
        let meant = [1000, 1001, 1052, 1053, 1103, 1104, 1147, 1148].map(|seen| stream.meant_by(seen));
        assert_eq!(meant, [1000, 1000, 1000, 1050, 1100, 1100, 1100, 1150]);
        assert!(stream.shifts().map(|(_, change)| change).eq([3, -5]));
    }

    #[test]
    fn what_is_acknowledged_is_what_was_sent_whatever_was_changed() {
        bolero::check!().with_type::<(u32, [(u8, u8, i8); 7], u16)>().for_each(|&(first, lines, ahead)| {
            let mut stream = Stream::default();
            let mut at = first;
            for (gap, len, change) in lines {
                let (start, len) = (at.wrapping_add(u32::from(gap)), u32::from(len) + 1);
                at = start.wrapping_add(len);
                // A line has a byte at least.
                stream.shift(start, at, i32::from(change).max(1 - len as i32));
            }
            for sequence in [at, at.wrapping_add(u32::from(ahead))] {
                let seen = sequence.wrapping_add_signed(stream.added_at(sequence));
                assert_eq!(stream.meant_by(seen), sequence);
            }
            for (shift, _) in stream.shifts() {
                for sequence in [shift.start, shift.end] {
                    let seen = sequence.wrapping_add_signed(stream.added_at(sequence));
                    assert_eq!(stream.meant_by(seen), sequence);
                }
            }
            // Never ahead of what the receiver can have.
            let mut last = stream.meant_by(first);
            for seen in (0..600).map(|step| first.wrapping_add(step)) {
                let meant = stream.meant_by(seen);
                assert!(is_reached(meant, last), "{meant} after {last}");
                last = meant;
            }
        });
    }
}
