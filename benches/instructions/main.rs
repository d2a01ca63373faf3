//! How many instructions a hit costs, from the socket to the socket, and how that grows. Instructions in user space do
//! not depend on what else the machine does, so a bound on them holds where one on time can't.
//!
//! `cargo bench --bench instructions`; needs valgrind and taskset. Fails if a hit costs more than
//! [`MAX_INSTRUCTIONS`], or that of a verified caller more than [`MAX_VERIFIED`] times as much, if a hit grows by more
//! than [`MAX_GROWTH`], or if the program is larger than [`MAX_BYTES`]. With `-- --keep DIR` the profiles stay there,
//! for callgrind_annotate; with `-- --hit` only the hit is counted; with `-- --binary FILE` that of another build (the
//! profile `profiling` has names in it).

mod client;
mod counted;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::{env, fs};

use client::Client;
use counted::Counted;

/// Any error of a measurement.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Instructions of one hit of 1 KiB over HTTP/1.1, asked one after another on one connection. When it falls, lower it.
const MAX_INSTRUCTIONS: u64 = 30_500;

/// Bytes of the release, which has no names in it. zstd and brotli are two MiB of it.
const MAX_BYTES: u64 = 23 << 20;

/// How much more a hit may cost where there is a thousand times as much of something: a tenth.
const MAX_GROWTH: f64 = 1.10;

/// How many times as much as a plain hit that of a verified caller may cost, whose request has one more field.
const MAX_VERIFIED: f64 = 1.15;

/// Few enough to be quick, and enough that what happens now and then is not seen.
const HITS: usize = 2_000;

struct Scenario {
    name: &'static str,
    routes: usize,
    entries: usize,
    purge_records: usize,
    tags: usize,
    /// The routes have `callers`, and each request a token.
    is_verified: bool,
    /// Each hundredth hit is compared with the upstream's answer.
    is_audited: bool,
}

const SMALL: Scenario = Scenario {
    name: "small",
    routes: 10,
    entries: 10,
    purge_records: 10,
    tags: 1,
    is_verified: false,
    is_audited: false,
};

const SECRET: &str = "a secret of more than thirty-two bytes";

/// `{"sub":"ann"}`, signed with [`SECRET`].
const TOKEN: &str = "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.3JWqWa5fD6YzvzqZ_hqLouwqXjhvGT3OnSwn1hrcY5o\r\n";

const GROWN: [Scenario; 4] = [
    Scenario { name: "routes x 1,000", routes: 10_000, ..SMALL },
    Scenario { name: "entries x 1,000", entries: 10_000, ..SMALL },
    Scenario { name: "purge records x 1,000", purge_records: 10_000, ..SMALL },
    Scenario { name: "tags x 64", tags: 64, ..SMALL },
];

struct Arguments {
    binary: PathBuf,
    is_release: bool,
    directory: PathBuf,
    keep: bool,
    hit_only: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::read()?;
    fs::create_dir_all(&arguments.directory)?;
    let counted = counts(&arguments);
    if !arguments.keep {
        drop(fs::remove_dir_all(&arguments.directory));
    }
    counted
}

fn counts(arguments: &Arguments) -> Result<(), Failure> {
    let upstream = client::upstream()?;
    let small = SMALL.count(arguments, upstream)?;
    println!("{small:>7} instructions a hit (at most {MAX_INSTRUCTIONS})");
    let bare = arguments.binary.with_file_name("examples").join("bare");
    if bare.exists() {
        let bare = count_bare(&bare, arguments)?;
        println!("{bare:>7} of the bare server: {:.2} times that", ratio(small, bare));
    }
    let bytes = fs::metadata(&arguments.binary)?.len();
    println!("{:>7.1} MiB of a program (at most {})", ratio(bytes, 1 << 20), MAX_BYTES >> 20);
    let mut fits = small <= MAX_INSTRUCTIONS && (bytes <= MAX_BYTES || !arguments.is_release);
    for (what, root) in [("misses", "/api/things-7"), ("passes", "/elsewhere")] {
        if !arguments.hit_only {
            println!("{:>7} of a request that {what}", count_forwarded(arguments, upstream, what, root)?);
        }
    }
    if !arguments.hit_only {
        let verified =
            Scenario { name: "verified", is_verified: true, ..SMALL }.count(arguments, upstream)?;
        println!(
            "{verified:>7} of a verified caller: {:.3} times that of anybody (at most {MAX_VERIFIED:.2})",
            ratio(verified, small)
        );
        fits &= ratio(verified, small) <= MAX_VERIFIED;
        let audited = Scenario { name: "audited", is_audited: true, ..SMALL }.count(arguments, upstream)?;
        println!("{audited:>7} with `audit: {{sample: 1%}}`: {:.3} times", ratio(audited, small));
    }
    for scenario in GROWN.iter().filter(|_| !arguments.hit_only) {
        let grown = scenario.count(arguments, upstream)?;
        println!(
            "{grown:>7} with {}: {:.3} times (at most {MAX_GROWTH:.2})",
            scenario.name,
            ratio(grown, small)
        );
        fits &= ratio(grown, small) <= MAX_GROWTH;
    }
    if fits {
        Ok(())
    } else {
        Err("a hit costs more instructions than its bound, or the program is too large".into())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}

impl Scenario {
    /// Instructions of one hit.
    fn count(&self, arguments: &Arguments, upstream: SocketAddr) -> Result<u64, Failure> {
        let (mut larder, proxy, admin) =
            self.start(arguments, upstream, &self.name.replace([' ', ','], "-"))?;
        let mut client = Client::connect(proxy)?.with_fields(if self.is_verified { TOKEN } else { "" });
        if self.purge_records > 0 {
            let tags: Vec<String> = (0..self.purge_records).map(|n| format!("\"purged-{n}\"")).collect();
            Client::connect(admin)?.post("/purge", &format!("{{\"tags\": [{}]}}", tags.join(",")))?;
        }
        let paths: Vec<String> =
            (0..self.entries).map(|n| format!("/api/things-7/{n}/{}", self.tags)).collect();
        paths.iter().try_for_each(|path| client.get(path).map(drop))?;
        // Not in their order: a hit finds its response among all the others.
        let asked: Vec<&String> = (0..HITS).filter_map(|n| paths.get(n * 7919 % paths.len())).collect();
        let ask = |client: &mut Client| {
            asked.iter().try_for_each(|path| match client.get(path)?.contains("larder; hit") {
                true => Ok(()),
                false => Err(format!("{path} was no hit").into()),
            })
        };
        ask(&mut client)?;
        // The sample that is taken of each route every ten seconds falls into one of them at most.
        let counts = (0..3).map(|_| larder.count(|| ask(&mut client))).collect::<Result<Vec<_>, _>>()?;
        Ok(counts.into_iter().min().unwrap_or_default() / HITS as u64)
    }

    /// With the addresses of its listeners.
    fn start(
        &self,
        arguments: &Arguments,
        upstream: SocketAddr,
        name: &str,
    ) -> Result<(Counted, SocketAddr, SocketAddr), Failure> {
        let (proxy, admin) = (free_address()?, free_address()?);
        let file = arguments.directory.join(format!("{name}.yaml"));
        fs::write(&file, self.config(proxy, admin, upstream))?;
        let file = file.to_str().ok_or("a path that is no text")?;
        let out = arguments.directory.join(name);
        let larder = Counted::start(&arguments.binary, &["run", "--config", file], &[proxy, admin], out)?;
        Ok((larder, proxy, admin))
    }

    fn config(&self, proxy: SocketAddr, admin: SocketAddr, upstream: SocketAddr) -> String {
        let callers = if self.is_verified { ", callers: app, per: jwt.sub" } else { "" };
        let known = if self.is_verified {
            format!("callers: {{app: {{jwt: {{secret: '{SECRET}'}}}}}}\n")
        } else {
            String::new()
        };
        // None of its audits may fall to the budget of background requests, which is for one of real traffic.
        let audit = match self.is_audited {
            true => "audit: {sample: 1%, settle: 0s}\nbackground: {rate: 1000000, connections: 100%}\n",
            false => "",
        };
        let routes: String = (0..self.routes)
            .map(|n| {
                format!(
                    "  - {{path: '/api/things-{n}/{{id}}/{{tags}}', ttl: 1h, tags: ['thing:{{id}}']{callers}}}\n"
                )
            })
            .collect();
        format!(
            "listen: {proxy}\nupstream: http://{upstream}\nadmin: {{listen: {admin}}}\nstore: {{memory: 64MiB}}\n\
             {known}{audit}routes:\n{routes}"
        )
    }
}

/// Each path only once.
fn count_forwarded(
    arguments: &Arguments,
    upstream: SocketAddr,
    what: &str,
    root: &str,
) -> Result<u64, Failure> {
    let scenario = Scenario { name: "forwarded", ..SMALL };
    let (mut larder, proxy, _) = scenario.start(arguments, upstream, what)?;
    let mut client = Client::connect(proxy)?;
    let mut number = 0;
    let mut ask = || {
        (0..HITS).try_for_each(|_| {
            number += 1;
            client.get(&format!("{root}/{number}/1")).map(drop)
        })
    };
    ask()?;
    Ok(larder.count(ask)? / HITS as u64)
}

fn count_bare(bare: &Path, arguments: &Arguments) -> Result<u64, Failure> {
    let address = free_address()?;
    let out = arguments.directory.join("bare");
    let mut bare = Counted::start(bare, &[&address.to_string(), "1024"], &[address], out)?;
    let mut client = Client::connect(address)?;
    let ask = |client: &mut Client| (0..HITS).try_for_each(|_| client.get("/api/things-7/1/1").map(drop));
    ask(&mut client)?;
    Ok(bare.count(|| ask(&mut client))? / HITS as u64)
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Arguments {
    fn read() -> Result<Self, Failure> {
        let scratch = env::temp_dir().join(format!("larder-instructions-{}", std::process::id()));
        let mut read = Self {
            binary: env!("CARGO_BIN_EXE_larder").into(),
            is_release: true,
            directory: scratch,
            keep: false,
            hit_only: false,
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // Said by cargo.
                "--bench" => {}
                "--hit" => read.hit_only = true,
                "--binary" => (read.binary, read.is_release) = (value()?.into(), false),
                "--keep" => (read.directory, read.keep) = (value()?.into(), true),
                other => return Err(format!("what is {other}?").into()),
            }
        }
        Ok(read)
    }
}
