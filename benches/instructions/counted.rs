//! A server under callgrind, and how many instructions it takes for what is asked of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::Failure;
use crate::client::Client;

pub struct Counted {
    valgrind: Child,
    /// Where callgrind writes; dumps have a number after it.
    out: PathBuf,
    dumps: u32,
}

impl Counted {
    /// Starts `program` on one core, and waits until it listens on `addresses`.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        addresses: &[SocketAddr],
        out: PathBuf,
    ) -> Result<Self, Failure> {
        let valgrind = Command::new("taskset")
            .args(["-c", "0", "valgrind", "--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("taskset, or valgrind (Debian: apt-get install valgrind): {error}"))?;
        let mut started = Self { valgrind, out, dumps: 0 };
        let end = Instant::now() + Duration::from_secs(120);
        while !addresses.iter().all(|address| Client::connect(*address).is_ok()) {
            if started.valgrind.try_wait()?.is_some() || Instant::now() > end {
                return Err(format!("{} does not listen on {addresses:?}", program.display()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }

    /// Instructions in user space, of all threads, while `work` is done.
    pub fn count(&mut self, work: impl FnOnce() -> Result<(), Failure>) -> Result<u64, Failure> {
        self.control("zero")?;
        work()?;
        self.control("dump")?;
        self.dumps += 1;
        let dump = PathBuf::from(format!("{}.{}", self.out.display(), self.dumps));
        let text = fs::read_to_string(&dump)?;
        let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(totals.ok_or_else(|| format!("no totals in {}", dump.display()))?.trim().parse()?)
    }

    fn control(&self, command: &str) -> Result<(), Failure> {
        // taskset has become valgrind, so the process is that one.
        let pid = format!("--pid={}", self.valgrind.id());
        let said = Command::new("vgdb").args(["--wait=20", &pid, command]).output()?;
        if said.status.success() {
            return Ok(());
        }
        Err(format!("vgdb {command}: {}", String::from_utf8_lossy(&said.stderr)).into())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        drop(self.valgrind.kill());
        drop(self.valgrind.wait());
    }
}
