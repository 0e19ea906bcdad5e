//! Next hops in the order of their last answer, in lists by what they are: who makes room for whom.
//!
//! A list is a chain of entries, so that putting one at its end, or taking it out, costs the same however long it is. All
//! memory is taken, and touched, at the start.

use super::Slot;

/// No entry, and no list.
const NONE: u16 = u16::MAX;

/// The number of a list.
pub(super) type List = u16;

/// See the module.
pub(super) struct Order {
    /// By entry.
    links: Box<[Link]>,
    /// By number.
    lists: Box<[Ends]>,
}

#[derive(Clone, Copy)]
struct Link {
    before: u16,
    behind: u16,
    list: u16,
}

#[derive(Clone, Copy)]
struct Ends {
    first: u16,
    last: u16,
    len: u16,
}

impl Order {
    /// For so many entries, fewer than 65,535, in so many lists, all empty.
    pub(super) fn new(entries: usize, lists: usize) -> Self {
        assert!(entries < usize::from(NONE), "entries are numbered with 16 bits");
        Self {
            links: vec![Link { before: NONE, behind: NONE, list: NONE }; entries].into(),
            lists: vec![Ends { first: NONE, last: NONE, len: 0 }; lists].into(),
        }
    }

    /// The list that an entry is in.
    pub(super) fn list_of(&self, slot: Slot) -> Option<List> {
        let list = self.links[slot as usize].list;
        (list != NONE).then_some(list)
    }

    /// How many are in a list.
    pub(super) fn len(&self, list: List) -> usize {
        usize::from(self.lists[usize::from(list)].len)
    }

    /// The one that came into a list first.
    pub(super) fn first(&self, list: List) -> Option<Slot> {
        let first = self.lists[usize::from(list)].first;
        (first != NONE).then_some(Slot::from(first))
    }

    /// Puts an entry at the end of a list, from whatever list it is in.
    pub(super) fn put(&mut self, slot: Slot, list: List) {
        self.take_out(slot);
        let number = slot as u16;
        let ends = &mut self.lists[usize::from(list)];
        let before = std::mem::replace(&mut ends.last, number);
        ends.len += 1;
        match before {
            NONE => ends.first = number,
            before => self.links[usize::from(before)].behind = number,
        }
        self.links[slot as usize] = Link { before, behind: NONE, list };
    }

    /// Takes an entry out of its list, if it is in one.
    pub(super) fn take_out(&mut self, slot: Slot) {
        let Some(list) = self.list_of(slot) else { return };
        let Link { before, behind, .. } = self.links[slot as usize];
        let ends = &mut self.lists[usize::from(list)];
        ends.len -= 1;
        match before {
            NONE => ends.first = behind,
            before => self.links[usize::from(before)].behind = behind,
        }
        match behind {
            NONE => ends.last = before,
            behind => self.links[usize::from(behind)].before = before,
        }
        self.links[slot as usize].list = NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_lists_whatever_comes_and_goes() {
        bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|steps| {
            let mut order = Order::new(16, 3);
            let mut model: [Vec<Slot>; 3] = Default::default();
            for &(slot, to) in steps {
                let slot = Slot::from(slot % 16);
                model.iter_mut().for_each(|list| list.retain(|&known| known != slot));
                match usize::from(to % 4) {
                    3 => order.take_out(slot),
                    list => {
                        order.put(slot, list as List);
                        model[list].push(slot);
                    }
                }
                for (list, known) in model.iter().enumerate() {
                    assert_eq!(order.len(list as List), known.len());
                    assert_eq!(order.first(list as List), known.first().copied());
                    assert!(known.iter().all(|&slot| order.list_of(slot) == Some(list as List)));
                }
            }
        });
    }
}
