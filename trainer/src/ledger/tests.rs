//! Writers at once, damage, kills, and what people add.

use super::*;

fn enter(ledger: &Ledger, id: &str) -> Result<()> {
    ledger.change(|table| {
        let row = table.push();
        table.set(row, "id", id);
        table.set(row, "name", &format!("run-{id}"));
    })
}

#[test]
fn writers_at_once_lose_no_row_and_readers_see_whole_files() {
    let runs = tempfile::tempdir().unwrap();
    let (writers, each) = (4, 12);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let ledger = Ledger::of(runs.path());
            scope.spawn(move || (0..each).for_each(|n| enter(&ledger, &format!("{writer}-{n}")).unwrap()));
        }
        let ledger = Ledger::of(runs.path());
        let mut seen = 0;
        for _ in 0..100 {
            let rows = ledger.read().unwrap();
            assert!(rows.len() >= seen && rows.iter().all(|row| row.get("name").starts_with("run-")));
            seen = rows.len();
        }
    });
    let mut ids: Vec<String> =
        Ledger::of(runs.path()).read().unwrap().iter().map(|row| row.get("id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), writers * each);
}

#[test]
fn a_damaged_ledger_is_left_as_it_is() {
    let runs = tempfile::tempdir().unwrap();
    let ledger = Ledger::of(runs.path());
    for damage in ["", "id,name\n1,\"a\n", "my own table\n1\n", "id,name\n1,a,too much\n"] {
        fs_err::write(ledger.path(), damage).unwrap();
        if damage.is_empty() {
            enter(&ledger, "1").unwrap();
            assert_eq!(ledger.read().unwrap().len(), 1);
            continue;
        }
        let error = enter(&ledger, "2").unwrap_err().to_string();
        assert!(error.contains("experiments.csv is damaged"), "{error}");
        assert_eq!(ledger.read().unwrap_err().to_string(), error);
        assert_eq!(fs_err::read_to_string(ledger.path()).unwrap(), damage);
    }
}

#[test]
fn what_a_kill_leaves_behind_does_no_harm() {
    let runs = tempfile::tempdir().unwrap();
    let ledger = Ledger::of(runs.path());
    enter(&ledger, "1").unwrap();
    // Killed while the new file was written: its beginning lies there, and the lock's file without a lock.
    fs_err::write(runs.path().join("experiments.csv.tmp"), "id,na").unwrap();
    assert!(runs.path().join(".experiments.lock").is_file());
    assert_eq!(ledger.read().unwrap().len(), 1);
    enter(&ledger, "2").unwrap();
    let rows = ledger.read().unwrap();
    assert_eq!(rows.iter().map(|row| row.get("id")).collect::<Vec<_>>(), ["1", "2"]);
    assert!(!runs.path().join("experiments.csv.tmp").exists());
}

#[test]
fn columns_of_people_are_kept_and_told_apart() {
    let runs = tempfile::tempdir().unwrap();
    let ledger = Ledger::of(runs.path());
    fs_err::write(ledger.path(), "verdict,id,name,notes\nkeep,1,a,\"long, note\"\n").unwrap();
    ledger.change(|table| table.set(0, "loss", "0.25")).unwrap();
    let rows = ledger.read().unwrap();
    assert_eq!((rows[0].get("notes"), rows[0].number("loss")), ("long, note", Some(0.25)));
    assert_eq!(rows[0].further().collect::<Vec<_>>(), [("verdict", "keep")]);
    assert_eq!((rows[0].number("name"), rows[0].get("none")), (None, ""));
    assert!(fs_err::read_to_string(ledger.path()).unwrap().starts_with("verdict,id,name,notes,"));
}
