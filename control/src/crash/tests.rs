use std::os::unix::fs::symlink;
use std::time::Instant;

use super::*;

fn noted(seconds: u64, flow: Option<&Flow>) -> Noted {
    let [boot, process] = ["a".to_owned(), seconds.to_string()];
    Noted { boot, seconds, process, flow: flow.map(Flow::to_digits), frame: flow.is_some(), calm: false }
}

/// A process has run for a minute.
fn calm(seconds: u64) -> Noted {
    Noted { calm: true, ..noted(seconds, None) }
}

/// This alone.
fn careful(seconds: u64) -> Lesson {
    Lesson { caution: caution(seconds, &[]), ..Lesson::default() }
}

fn flow(number: u8) -> Flow {
    Flow::of(&[number; 60])
}

/// Of these flows, each dropped for so many seconds.
fn caution(careful: u64, flows: &[(Flow, u64)]) -> Option<Caution> {
    let flows = flows.iter().map(|(flow, left)| (flow.clone(), Duration::from_secs(*left)));
    Some(Caution { careful: Duration::from_secs(careful), flows: flows.collect() })
}

#[test]
fn a_panic_has_the_next_process_be_careful_until_one_has_run_for_a_minute() {
    let notes = [noted(100, None)];
    assert_eq!(lesson(&notes, "a", 103), careful(60));
    assert_eq!(lesson(&notes, "a", 699), careful(60), "whatever the start takes");
    assert_eq!(lesson(&notes, "a", 700), Lesson::default());
    assert_eq!(lesson(&notes, "b", 103), Lesson::default(), "another boot");
    assert_eq!(lesson(&notes, "a", 99), Lesson::default(), "of the future");
    assert_eq!(lesson(&[], "a", 99), Lesson::default());
    let notes = [noted(100, None), calm(170)];
    assert_eq!(lesson(&notes, "a", 171), Lesson::default());
    assert_eq!(
        lesson(&[&notes[..], &[noted(180, None)]].concat(), "a", 181),
        careful(60),
        "a first one again"
    );
}

#[test]
fn a_second_one_whose_frame_is_known_has_its_flow_dropped_for_ten_minutes() {
    let of =
        |careful, flows: &[(Flow, u64)]| Lesson { caution: caution(careful, flows), ..Lesson::default() };
    let notes = [noted(100, None), noted(110, Some(&flow(1)))];
    assert_eq!(lesson(&notes, "a", 111), of(60, &[(flow(1), 599)]));
    assert_eq!(lesson(&[&notes[..], &[calm(180)]].concat(), "a", 300), of(0, &[(flow(1), 410)]));
    assert_eq!(lesson(&notes, "a", 710), Lesson::default());
    let notes = [&notes[..], &[noted(120, Some(&flow(2))), noted(121, Some(&flow(1)))]].concat();
    assert_eq!(lesson(&notes, "a", 122).caution, caution(60, &[(flow(1), 599), (flow(2), 598)]));
}

#[test]
fn a_second_one_at_no_frame_casts_doubt_on_what_is_kept() {
    let of = |notes: &[Noted], now| lesson(notes, "a", now).distrust.is_some();
    assert!(of(&[noted(100, None), noted(159, None)], 160));
    assert!(of(&[noted(100, None), noted(290, None)], 291), "the start has taken two minutes");
    assert!(!of(&[noted(100, None), calm(165), noted(190, None)], 191), "it has run for a minute");
    assert!(!of(&[noted(100, None), noted(159, None), calm(230)], 231), "and so has the next one");
    assert!(!of(&[noted(100, None), noted(110, Some(&flow(1))), self::of(110, 111)], 112));
    // Nor when the frame is none whose flow may be dropped.
    let kept = Noted { frame: true, ..noted(110, None) };
    assert_eq!(lesson(&[noted(100, None), kept], "a", 111), careful(60));
    let other = Noted { boot: "b".to_owned(), ..noted(100, None) };
    assert!(!of(&[other, noted(110, None)], 111));
}

/// One at no frame, of the process that has panicked before.
fn of(first: u64, seconds: u64) -> Noted {
    Noted { process: first.to_string(), ..noted(seconds, None) }
}

#[test]
fn two_workers_that_panic_at_once_are_no_second_panic() {
    assert_eq!(lesson(&[noted(100, None), of(100, 101)], "a", 102), careful(60));
    let third = [noted(100, None), of(100, 101), noted(110, None), of(110, 111)];
    assert!(lesson(&third, "a", 112).distrust.is_some(), "but the next process is");
}

#[test]
fn nothing_is_left_of_a_file_that_could_not_be_written() {
    let folder = folder("full");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("crash-1-worker0.new"), "of one that was killed").unwrap();
    // A folder stands where the file is to be.
    fs::create_dir(folder.join("here")).unwrap();
    assert!(write(&folder.join("here"), b"octets").is_err());
    let crash = Crash { culprit: None, frames: vec![vec![1; 60]] };
    keep(&folder, 0, "1", &crash).unwrap();
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    assert!(names.into_iter().all(|path| path.extension().is_none_or(|it| it != "new")));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn no_flow_is_dropped_that_keeps_the_director_on_its_link() {
    let folder = folder("link");
    let arp = [&[2; 12][..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &[9; 20]].concat();
    keep(&folder, 0, "1", &Crash { culprit: Some(arp.clone()), frames: vec![arp] }).unwrap();
    let note = read(&folder.join(NOTES)).remove(0);
    assert_eq!((note.flow, note.frame), (None, true));
    fs::remove_dir_all(&folder).unwrap();
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-crash-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

#[test]
fn panics_are_kept_with_a_few_files_of_frames() {
    let folder = folder("few");
    for number in 0..12 {
        let frames = vec![vec![number; 60], vec![9; 4_000]];
        keep(&folder, 1, &number.to_string(), &Crash { culprit: None, frames }).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    keep(&folder, 0, "12", &Crash { culprit: Some(vec![3; 60]), frames: vec![vec![3; 60]] }).unwrap();
    keep(&folder, 0, "13", &Crash::default()).unwrap();
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), FILES_MAX + 1, "{names:?}");
    assert!(names[7].ends_with("-worker0.pcapng") && names[8] == NOTES, "{names:?}");
    let notes = read(&folder.join(NOTES));
    assert_eq!(notes.len(), 14);
    assert_eq!(notes[12].flow, Some(flow(3).to_digits()));
    let (boot, now) = moment().unwrap();
    let learned = lesson(&notes, &boot, now);
    assert_eq!(learned.caution.unwrap().flows[0].0, flow(3));
    assert!(learned.distrust.is_some());
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn who_is_careful_notes_when_it_is_calm_and_a_panic_comes_first() {
    let folder = folder("calm");
    fs::create_dir(&folder).unwrap();
    be_calm(Some(folder.clone()), "7".to_owned());
    let notes = folder.join(NOTES);
    let deadline = Instant::now() + Duration::from_secs(30);
    while read(&notes).is_empty() {
        assert!(Instant::now() < deadline);
        thread::sleep(LOOK);
    }
    assert!(read(&notes)[0].calm);
    fs::remove_dir_all(&folder).unwrap();
    let (send, panics) = sync_channel(1);
    assert_eq!(next(&panics, Some(LOOK)).unwrap_err(), RecvTimeoutError::Timeout);
    send.send((3, Crash::default())).unwrap();
    assert_eq!(next(&panics, Some(CAREFUL)).map(|(worker, _)| worker), Ok(3));
    drop(send);
    assert_eq!(next(&panics, None).unwrap_err(), RecvTimeoutError::Disconnected);
}

#[test]
fn an_account_gets_the_notes_and_nothing_that_they_lead_to() {
    let folder = folder("given");
    // Nobody's but its own: as any user.
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    give(&folder, user, group).unwrap();
    let of = |name: &str| folder.join(name);
    fs::write(of(NOTES), "[]").unwrap();
    fs::write(of("other"), "").unwrap();
    fs::hard_link(of("other"), of("crash-1-worker0.pcapng")).unwrap();
    symlink("/etc/passwd", of("crash-2-worker0.pcapng")).unwrap();
    // Who may give files away sees which ones those are.
    let is_root = user == 0;
    let to = if is_root { 1 } else { user };
    give(&folder, to, group).unwrap();
    let owner = |name: &str| fs::symlink_metadata(of(name)).unwrap().uid();
    assert_eq!([owner(""), owner(NOTES)], [to; 2]);
    assert_eq!([owner("other"), owner("crash-1-worker0.pcapng"), owner("crash-2-worker0.pcapng")], [user; 3]);
    assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), 0);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn notes_that_are_none_are_none() {
    let folder = folder("none");
    fs::create_dir(&folder).unwrap();
    let path = folder.join(NOTES);
    for text in ["", "{", "[1]", "[{\"boot\":1}]", "\u{0}"] {
        fs::write(&path, text).unwrap();
        assert_eq!(read(&path), [], "{text:?}");
    }
    fs::write(&path, "[{\"boot\":\"a\",\"seconds\":18446744073709551615,\"flow\":\"zz\"}]").unwrap();
    assert_eq!(lesson(&read(&path), "a", 5), Lesson::default());
    fs::write(&path, "x".repeat(1 << 20)).unwrap();
    assert_eq!(read(&path), []);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(read(&path), []);
    fs::remove_dir_all(&folder).unwrap();
}
