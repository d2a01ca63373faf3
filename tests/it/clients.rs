//! Real clients see through larder what they see without it.

use std::process::Command;

/// Clients that are not installed are left out; curl and Python are there.
#[test]
fn clients_see_the_same_through_larder() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/run");
    let mut seen = String::new();
    // Go and curl over HTTP/2 lose some early answers while they still send: each table is shown if three in a row differ.
    for _ in 0..3 {
        let run = Command::new(script).arg(env!("CARGO_BIN_EXE_larder")).output().expect("python3");
        let (table, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        if run.status.success() && table.contains("| curl |") {
            return;
        }
        seen += &format!("{table}\n{errors}\n");
    }
    panic!("{seen}");
}
