use super::*;

fn noted(seconds: u64, flow: Option<&Flow>) -> Noted {
    let [boot, process] = ["a".to_owned(), seconds.to_string()];
    Noted { boot, seconds, process, flow: flow.map(Flow::to_digits), frame: flow.is_some() }
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
fn a_first_panic_has_the_next_process_be_careful_for_a_minute() {
    let notes = [noted(100, None)];
    assert_eq!(lesson(&notes, "a", 103), Lesson { caution: caution(60, &[]), distrust: None });
    assert_eq!(lesson(&notes, "a", 160), Lesson::default());
    assert_eq!(lesson(&notes, "b", 103), Lesson::default(), "another boot");
    assert_eq!(lesson(&notes, "a", 99), Lesson::default(), "of the future");
    assert_eq!(lesson(&[], "a", 99), Lesson::default());
}

#[test]
fn a_second_one_whose_frame_is_known_has_its_flow_dropped_for_ten_minutes() {
    let notes = [noted(100, None), noted(110, Some(&flow(1)))];
    assert_eq!(lesson(&notes, "a", 111), Lesson { caution: caution(60, &[(flow(1), 599)]), distrust: None });
    assert_eq!(lesson(&notes, "a", 300), Lesson { caution: caution(0, &[(flow(1), 410)]), distrust: None });
    assert_eq!(lesson(&notes, "a", 710), Lesson::default());
    let notes = [&notes[..], &[noted(120, Some(&flow(2))), noted(121, Some(&flow(1)))]].concat();
    assert_eq!(lesson(&notes, "a", 122).caution, caution(60, &[(flow(1), 599), (flow(2), 598)]));
}

#[test]
fn a_second_one_at_no_frame_casts_doubt_on_what_is_kept() {
    assert!(lesson(&[noted(100, None), noted(159, None)], "a", 160).distrust.is_some());
    assert!(lesson(&[noted(100, None), noted(160, None)], "a", 161).distrust.is_none());
    assert!(lesson(&[noted(100, None), noted(159, None)], "a", 219).distrust.is_none());
    // Not when it was one of several workers that were at no frame, or when the frame is none whose flow may be dropped.
    assert!(
        lesson(&[noted(100, None), noted(110, Some(&flow(1))), of(110, 111)], "a", 112).distrust.is_none()
    );
    let kept = Noted { frame: true, ..noted(110, None) };
    assert_eq!(
        lesson(&[noted(100, None), kept], "a", 111),
        Lesson { caution: caution(60, &[]), distrust: None }
    );
    let other = Noted { boot: "b".to_owned(), ..noted(100, None) };
    assert!(lesson(&[other, noted(110, None)], "a", 111).distrust.is_none());
}

/// One at no frame, of the process that has panicked before.
fn of(first: u64, seconds: u64) -> Noted {
    Noted { process: first.to_string(), ..noted(seconds, None) }
}

#[test]
fn two_workers_that_panic_at_once_are_no_second_panic() {
    assert_eq!(
        lesson(&[noted(100, None), of(100, 101)], "a", 102),
        Lesson { caution: caution(60, &[]), distrust: None }
    );
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
