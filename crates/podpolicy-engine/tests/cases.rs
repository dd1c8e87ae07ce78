//! Decisions, case by case: each folder of `tests/cases` is a behaviour, and a test of that name.

mod case;
mod cluster;

macro_rules! cases {
    ($($behaviour:ident)*) => {
        const CASES: &[&str] = &[$(stringify!($behaviour)),*];

        $(
            #[test]
            fn $behaviour() {
                case::check(stringify!($behaviour));
            }
        )*
    };
}

cases! {
    foreign_label_is_never_overwritten
}

#[test]
fn every_folder_is_a_test() {
    let mut folders: Vec<_> =
        std::fs::read_dir(case::folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    let mut listed = CASES.to_vec();
    listed.sort_unstable();
    assert_eq!(listed, folders, "the list in tests/cases.rs (left) and the folders of tests/cases (right) differ");
}
