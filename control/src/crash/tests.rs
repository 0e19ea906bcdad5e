use super::*;

fn noted(seconds: u64, flow: Option<&Flow>) -> Noted {
    Noted { boot: "a".to_owned(), seconds, flow: flow.map(Flow::to_digits) }
}

fn flow(number: u8) -> Flow {
    Flow::of(&[number; 60])
}

fn caution(careful: u64, flows: &[Flow], dropped: u64) -> Option<Caution> {
    let [careful, dropped] = [careful, dropped].map(Duration::from_secs);
    Some(Caution { careful, flows: flows.to_vec(), dropped })
}

#[test]
fn a_first_panic_has_the_next_process_be_careful_for_a_minute() {
    let notes = [noted(100, None)];
    assert_eq!(lesson(&notes, "a", 103), Lesson { caution: caution(60, &[], 597), distrust: None });
    assert_eq!(lesson(&notes, "a", 160), Lesson::default());
    assert_eq!(lesson(&notes, "b", 103), Lesson::default(), "another boot");
    assert_eq!(lesson(&notes, "a", 99), Lesson::default(), "of the future");
    assert_eq!(lesson(&[], "a", 99), Lesson::default());
}

#[test]
fn a_second_one_whose_frame_is_known_has_its_flow_dropped_for_ten_minutes() {
    let notes = [noted(100, None), noted(110, Some(&flow(1)))];
    assert_eq!(lesson(&notes, "a", 111), Lesson { caution: caution(60, &[flow(1)], 599), distrust: None });
    assert_eq!(lesson(&notes, "a", 300), Lesson { caution: caution(0, &[flow(1)], 410), distrust: None });
    assert_eq!(lesson(&notes, "a", 710), Lesson::default());
    let notes = [&notes[..], &[noted(120, Some(&flow(2))), noted(121, Some(&flow(1)))]].concat();
    assert_eq!(lesson(&notes, "a", 122).caution, caution(60, &[flow(1), flow(2)], 599));
}

#[test]
fn a_second_one_at_no_frame_casts_doubt_on_what_is_kept() {
    assert!(lesson(&[noted(100, None), noted(159, None)], "a", 160).distrust.is_some());
    assert!(lesson(&[noted(100, None), noted(160, None)], "a", 161).distrust.is_none());
    assert!(lesson(&[noted(100, None), noted(159, None)], "a", 219).distrust.is_none());
    let other = Noted { boot: "b".to_owned(), ..noted(100, None) };
    assert!(lesson(&[other, noted(110, None)], "a", 111).distrust.is_none());
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
        keep(&folder, 1, &Crash { culprit: None, frames }).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    keep(&folder, 0, &Crash { culprit: Some(vec![3; 60]), frames: vec![vec![3; 60]] }).unwrap();
    keep(&folder, 0, &Crash::default()).unwrap();
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
    assert_eq!(learned.caution.unwrap().flows, [flow(3)]);
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
