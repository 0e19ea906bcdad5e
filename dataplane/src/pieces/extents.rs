//! Which parts of a packet there were.

/// Words that they are kept in.
pub(super) const WORDS: usize = 7;
/// Parts with something missing between them, behind the first one, at most. With more of them the packet is followed all the same, but
/// neither what repeats is told nor when it is whole: it stays for its time.
const PARTS: usize = 12;

/// All numbers are in bytes. The first part begins with the first piece, at 0; the others are in order, and none touches
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extents {
    /// Where the first part ends.
    first: u16,
    /// Where the first piece ends, which has the ports.
    head: u16,
    /// Where the packet ends; 0: that was not seen.
    end: u16,
    count: u8,
    is_over: bool,
    is_scattered: bool,
    parts: [(u16, u16); PARTS],
}

/// What a piece is beside those that there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    /// It was the last that was missing.
    Completes,
    /// All of it was there.
    Duplicate,
    /// A part of it was there, or the packet would end elsewhere; or that was so of one before.
    Overlap,
}

impl Extents {
    /// After a first piece, which ends there.
    pub(super) fn first(end: u16) -> Self {
        Self {
            first: end,
            head: end,
            end: 0,
            count: 0,
            is_over: false,
            is_scattered: false,
            parts: [(0, 0); PARTS],
        }
    }

    /// Whether somebody overlapped, so that no piece goes on any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether it is known which parts have come, and more may come.
    pub(super) fn is_certain(&self) -> bool {
        !self.is_over && !self.is_scattered
    }

    /// Adds a piece that is not the first, or the first one again.
    pub(super) fn add(&mut self, start: u16, end: u16, is_last: bool) -> Fit {
        let fit = self.place(start, end, is_last);
        self.is_over |= fit == Fit::Overlap;
        fit
    }

    fn place(&mut self, start: u16, end: u16, is_last: bool) -> Fit {
        if self.is_over {
            return Fit::Overlap;
        }
        let parts = self.parts.get(..usize::from(self.count)).unwrap_or_default();
        let is_beyond = self.end != 0 && (end > self.end || is_last && end != self.end);
        let is_short = is_last && parts.last().map_or(self.first, |part| part.1) > end;
        let is_inside = |from: u16, to: u16| from <= start && end <= to;
        if is_beyond || is_short {
            return Fit::Overlap;
        }
        if is_last {
            self.end = end;
        }
        if is_inside(0, self.first) {
            return Fit::Duplicate;
        }
        if start < self.head {
            return Fit::Overlap;
        }
        if self.is_scattered {
            return Fit::Fits;
        }
        if parts.iter().any(|part| is_inside(part.0, part.1)) {
            return Fit::Duplicate;
        }
        if start < self.first || parts.iter().any(|part| start < part.1 && part.0 < end) {
            return Fit::Overlap;
        }
        self.insert(start, end);
        match self.end {
            end if end != 0 && !self.is_scattered && self.count == 0 && self.first == end => Fit::Completes,
            _ => Fit::Fits,
        }
    }

    /// Puts in a part that touches others at most.
    fn insert(&mut self, start: u16, end: u16) {
        let count = usize::from(self.count);
        if start == self.first {
            self.first = end;
            if count > 0 && self.parts[0].0 == end {
                self.first = self.parts[0].1;
                self.remove(0);
            }
            return;
        }
        let at = self.parts[..count].partition_point(|part| part.0 < start);
        let touches_before = at > 0 && self.parts[at - 1].1 == start;
        let touches_behind = at < count && self.parts[at].0 == end;
        match (touches_before, touches_behind) {
            (true, true) => {
                self.parts[at - 1].1 = self.parts[at].1;
                self.remove(at);
            }
            (true, false) => self.parts[at - 1].1 = end,
            (false, true) => self.parts[at].0 = start,
            (false, false) if count == PARTS => self.is_scattered = true,
            (false, false) => {
                self.parts.copy_within(at..count, at + 1);
                self.parts[at] = (start, end);
                self.count += 1;
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let count = usize::from(self.count);
        self.parts.copy_within(at + 1..count, at);
        self.count -= 1;
    }

    /// How many of [`Extents::words`] say anything: the others may be anything.
    pub(super) fn words_used(&self) -> usize {
        1 + usize::from(self.count).div_ceil(2)
    }

    #[inline]
    pub(super) fn words(&self) -> [u64; WORDS] {
        let flags = u64::from(self.count) | u64::from(self.is_over) << 8 | u64::from(self.is_scattered) << 9;
        let head =
            u64::from(self.first) << 48 | u64::from(self.head) << 32 | u64::from(self.end) << 16 | flags;
        let pair = |part: (u16, u16)| u64::from(part.0) << 16 | u64::from(part.1);
        std::array::from_fn(|n| match n {
            0 => head,
            n if n >= self.words_used() => 0,
            n => pair(self.parts[2 * n - 2]) << 32 | pair(self.parts[2 * n - 1]),
        })
    }

    #[inline]
    pub(super) fn from_words(words: [u64; WORDS]) -> Self {
        let head = words[0];
        let count = (head as u8).min(PARTS as u8);
        let part = |n: usize| {
            let pair = (words[1 + n / 2] >> if n & 1 == 0 { 32 } else { 0 }) as u32;
            ((pair >> 16) as u16, pair as u16)
        };
        Self {
            first: (head >> 48) as u16,
            head: (head >> 32) as u16,
            end: (head >> 16) as u16,
            count,
            is_over: head & 1 << 8 != 0,
            is_scattered: head & 1 << 9 != 0,
            parts: if count == 0 { [(0, 0); PARTS] } else { std::array::from_fn(part) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the parts say, by a list of bytes; `None` when they ran over.
    struct Model {
        bytes: Vec<bool>,
        end: Option<usize>,
        is_over: bool,
    }

    impl Model {
        fn add(&mut self, start: usize, end: usize, is_last: bool) -> Fit {
            let is_there = |at: usize| self.bytes.get(at).copied().unwrap_or_default();
            let is_beyond = self.end.is_some_and(|known| end > known || is_last && end != known);
            let is_short = is_last && (end..self.bytes.len()).any(is_there);
            let (all, any) = ((start..end).all(is_there), (start..end).any(is_there));
            let fit = match () {
                () if self.is_over || is_beyond || is_short => Fit::Overlap,
                () if all => Fit::Duplicate,
                () if any => Fit::Overlap,
                () => Fit::Fits,
            };
            self.is_over |= fit == Fit::Overlap;
            if is_last && fit != Fit::Overlap {
                self.end = Some(end);
            }
            if fit != Fit::Fits {
                return fit;
            }
            self.bytes.resize(self.bytes.len().max(end), false);
            self.bytes[start..end].fill(true);
            let whole =
                self.end.is_some_and(|end| self.bytes.len() == end && self.bytes.iter().all(|&there| there));
            if whole { Fit::Completes } else { Fit::Fits }
        }
    }

    #[test]
    fn parts_are_as_a_list_of_bytes() {
        bolero::check!().with_type::<(u8, Vec<(u8, u8, bool)>)>().for_each(|(first, pieces)| {
            let head = (u16::from(*first) % 4 + 1) * 8;
            let mut extents = Extents::first(head);
            let mut model = Model { bytes: vec![true; usize::from(head)], end: None, is_over: false };
            for &(at, len, is_last) in pieces {
                let start = (u16::from(at) % 32 + 1) * 8;
                let end = start + (u16::from(len) % 4 + 1) * 8;
                let is_last = is_last && at & 0x80 != 0;
                extents = Extents::from_words(extents.words());
                assert_eq!(
                    extents.add(start, end, is_last),
                    model.add(usize::from(start), usize::from(end), is_last)
                );
                if extents.is_scattered {
                    return;
                }
            }
        });
    }

    #[test]
    fn a_packet_of_many_scattered_parts_is_followed_without_being_told_whole() {
        let mut extents = Extents::first(8);
        for part in 1..=20 {
            assert_eq!(extents.add(part * 16, part * 16 + 8, false), Fit::Fits);
        }
        assert!(extents.is_scattered);
        // Not over what has the ports, whatever comes.
        assert_eq!(extents.add(0, 16, false), Fit::Overlap);
        assert_eq!(extents.add(400, 408, false), Fit::Overlap);
    }
}
