//! VLANs of a device as ports of their own: frames lose their tag when they come in and get it when they go out, so what lies between
//! knows of no tags but those that it is not told about.
//!
//! A device comes with all its frames. `Sorter` takes those with the tag of a port out of a burst, one VLAN's together, and those with a tag
//! that nobody has. Untagged ones stay, and those whose tag tells a priority alone. What was tagged twice has its inner tag still.

use arrayvec::ArrayVec;

use crate::packet::{BURST, Burst, Frame};
use crate::wire::ethernet::TYPE_VLAN;

/// Ids of VLANs.
const IDS: usize = 4_096;
/// Where the tag of a frame is, and where it ends.
const TAG: std::ops::Range<usize> = 12..16;
/// The tag of no port.
const NOBODY: u16 = u16::MAX;

/// A port that is a VLAN of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// The port of the device.
    pub device: usize,
    /// 1 to 4,094.
    pub id: u16,
}

/// The VLAN of a frame; 0: none.
#[inline]
fn id_of<F: Frame>(frame: &F) -> usize {
    match frame.bytes().get(TAG) {
        Some(&[0x81, 0, high, low]) => usize::from(u16::from_be_bytes([high & 0x0f, low])),
        _ => 0,
    }
}

/// Takes the tag off a frame. False: it has none, or ends with it.
#[inline]
pub(crate) fn untag<F: Frame>(frame: &mut F) -> bool {
    let bytes = frame.bytes_mut();
    if bytes.get(TAG.start..TAG.start + 2) != Some(&TYPE_VLAN.to_be_bytes()) || bytes.len() < TAG.end {
        return false;
    }
    bytes.copy_within(..TAG.start, TAG.len());
    frame.trim_front(TAG.len())
}

/// Gives a frame a tag; of priority 0, if it has none that tells one already. False: there is no room in front of it.
#[inline]
pub(crate) fn tag<F: Frame>(frame: &mut F, id: u16) -> bool {
    if let Some([0x81, 0, high, low]) = frame.bytes_mut().get_mut(TAG)
        && (*high & 0x0f, *low) == (0, 0)
    {
        *high |= (id >> 8) as u8;
        *low = id as u8;
        return true;
    }
    if !frame.prepend(TAG.len()) {
        return false;
    }
    let bytes = frame.bytes_mut();
    if bytes.len() < TAG.end {
        return false;
    }
    bytes.copy_within(TAG.len()..TAG.end, 0);
    bytes[TAG.start..TAG.start + 2].copy_from_slice(&TYPE_VLAN.to_be_bytes());
    bytes[TAG.start + 2..TAG.end].copy_from_slice(&id.to_be_bytes());
    true
}

/// Sorts the frames of a device's VLANs out of its bursts.
pub(crate) struct Sorter<F> {
    /// By id, where in `parts` its frames go.
    places: Box<[u16; IDS]>,
    /// The port's number, and its frames.
    parts: Vec<(usize, Burst<F>)>,
    /// Which of them hold frames, those that got them last first.
    filled: ArrayVec<u16, BURST>,
    /// Frames with a tag of no port.
    nobodys: Burst<F>,
}

impl<F: Frame> Sorter<F> {
    /// For each of so many devices that has VLANs; `vlans` are the ports behind the devices. Empty if there are none.
    pub(crate) fn of_devices(vlans: &[Vlan], devices: usize) -> Vec<Option<Self>> {
        if vlans.is_empty() {
            return Vec::new();
        }
        let of = |device: usize| {
            let mut sorter = Self {
                places: Box::new([NOBODY; IDS]),
                parts: Vec::new(),
                filled: ArrayVec::new(),
                nobodys: Burst::new(),
            };
            for (number, vlan) in vlans.iter().enumerate().filter(|(_, vlan)| vlan.device == device) {
                sorter.places[usize::from(vlan.id) % IDS] = sorter.parts.len() as u16;
                sorter.parts.push((devices + number, Burst::new()));
            }
            (!sorter.parts.is_empty()).then_some(sorter)
        };
        (0..devices).map(of).collect()
    }

    /// Takes the frames with tags out of a burst; the others stay in it, all in their order. Those with a tag of no port are given back.
    /// What was sorted before is taken by then.
    #[inline]
    pub(crate) fn sort(&mut self, burst: &mut Burst<F>) -> &mut Burst<F> {
        burst.iter().for_each(Frame::prefetch);
        let mut others = Burst::new();
        for frame in burst.drain(..) {
            let id = id_of(&frame);
            let place = self.places[id];
            match self.parts.get_mut(usize::from(place)) {
                Some((_, part)) => {
                    if part.is_empty() {
                        self.filled.push(place);
                    }
                    part.push(frame);
                }
                None if id == 0 => others.push(frame),
                None => self.nobodys.push(frame),
            }
        }
        *burst = others;
        &mut self.nobodys
    }

    /// The frames of one more VLAN, with its port's number. They are taken out of the burst before this is asked again.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(usize, &mut Burst<F>)> {
        let place = self.filled.pop()?;
        let (port, part) = self.parts.get_mut(usize::from(place))?;
        Some((*port, part))
    }

    /// All frames that are still here.
    pub(crate) fn left(&mut self) -> impl Iterator<Item = F> + '_ {
        self.parts.iter_mut().flat_map(|(_, part)| part.drain(..)).chain(self.nobodys.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::heap::HeapFrame;

    const VLANS: [Vlan; 3] =
        [Vlan { device: 1, id: 7 }, Vlan { device: 0, id: 100 }, Vlan { device: 1, id: 4_094 }];

    /// A frame with these tags, and a number at its end.
    fn frame(tags: &[u16], number: u8) -> HeapFrame {
        let mut bytes = vec![2; 12];
        for tag in tags {
            bytes.extend([0x81, 0]);
            bytes.extend(tag.to_be_bytes());
        }
        bytes.extend([8, 0, 0x45, number]);
        HeapFrame::new(&bytes)
    }

    fn numbers(frames: &[HeapFrame]) -> Vec<u8> {
        frames.iter().filter_map(|frame| frame.bytes().last().copied()).collect()
    }

    #[test]
    fn each_port_gets_its_frames_in_order_and_the_device_those_without_a_vlan() {
        let mut sorters = Sorter::of_devices(&VLANS, 2);
        assert!(Sorter::<HeapFrame>::of_devices(&[], 2).is_empty());
        let of_second = sorters[1].as_mut().expect("it has VLANs");
        let tags: [&[u16]; 9] = [&[7], &[], &[100], &[7, 9], &[0xe007], &[4_094], &[0], &[7], &[9, 7]];
        for _ in 0..3 {
            let mut burst: Burst<HeapFrame> =
                tags.iter().zip(0..).map(|(tags, number)| frame(tags, number)).collect();
            let nobodys = of_second.sort(&mut burst);
            assert_eq!(numbers(nobodys), [2, 8]);
            nobodys.clear();
            assert_eq!(numbers(&burst), [1, 6]);
            let mut taken = Vec::new();
            while let Some((port, part)) = of_second.next() {
                part.iter_mut().for_each(|frame| assert!(untag(frame)));
                taken.push((port, numbers(part), part[0].bytes().len()));
                part.clear();
            }
            assert_eq!(taken, [(4, vec![5], 16), (2, vec![0, 3, 4, 7], 16)]);
        }
        assert_eq!(sorters[0].as_mut().map(|sorter| sorter.parts.len()), Some(1));
    }

    #[test]
    fn a_tag_comes_off_and_goes_on_again() {
        bolero::check!().with_type::<(Vec<u8>, u16)>().for_each(|(bytes, id)| {
            let mut frame = HeapFrame::new(bytes);
            let has_priority = bytes.len() >= 16 && bytes[12..14] == [0x81, 0] && id_of(&frame) == 0;
            let is_tagged = tag(&mut frame, *id & 0x0fff);
            assert_eq!(is_tagged, bytes.len() >= 12);
            if has_priority {
                assert_eq!(id_of(&frame), usize::from(*id & 0x0fff));
                assert_eq!(frame.bytes()[14] & 0xf0, bytes[14] & 0xf0);
                assert_eq!((&frame.bytes()[..14], &frame.bytes()[16..]), (&bytes[..14], &bytes[16..]));
            } else if is_tagged {
                assert_eq!(id_of(&frame), usize::from(*id & 0x0fff));
                assert_eq!(frame.bytes()[..12], bytes[..12]);
                assert_eq!(frame.bytes()[16..], bytes[12..]);
                assert!(untag(&mut frame));
                assert_eq!(frame.bytes(), bytes);
            }
            let mut whole = HeapFrame::new(bytes);
            let has_tag = bytes.len() >= 16 && bytes[12..14] == [0x81, 0];
            assert_eq!(untag(&mut whole), has_tag);
        });
    }

    #[test]
    fn a_burst_of_as_many_vlans_as_frames_is_sorted() {
        let vlans: Vec<Vlan> = (1..=100).map(|id| Vlan { device: 0, id }).collect();
        let mut sorters = Sorter::of_devices(&vlans, 1);
        let sorter = sorters[0].as_mut().expect("it has VLANs");
        let mut burst: Burst<HeapFrame> = (0..BURST as u16).map(|n| frame(&[n + 1], n as u8)).collect();
        assert!(sorter.sort(&mut burst).is_empty());
        assert!(burst.is_empty());
        let mut ports = Vec::new();
        while let Some((port, part)) = sorter.next() {
            ports.push(port);
            assert_eq!(part.drain(..).count(), 1);
        }
        ports.sort_unstable();
        assert_eq!(ports, (1..=BURST).collect::<Vec<_>>());
        assert_eq!(sorter.left().count(), 0);
    }
}
