//! Real clients see through larder what they see without it.

use std::process::Command;

/// The script fails without a client that it is to ask. `.ci/run clients` installs all and asks them.
#[test]
fn clients_see_the_same_through_larder() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/run");
    let run = Command::new(script)
        .args(["clients", "--only", "curl,curl h2c,curl HTTP/2", env!("CARGO_BIN_EXE_larder")])
        .output()
        .expect("python3");
    let (table, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && table.contains("| curl |"), "{table}\n{errors}");
}
