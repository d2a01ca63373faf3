//! Certificates for one test, made by the system's `openssl`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Scratch;

/// An authority, a server for `127.0.0.1` and `localhost`, and a client.
pub struct Certificates(Scratch);

impl Certificates {
    pub fn new() -> Self {
        let made = Self(Scratch::new());
        made.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test");
        made.signed("server", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days 2");
        made.signed("client", "extendedKeyUsage=clientAuth", "-days 2");
        // Valid for everything but this machine, and for this machine but not any more.
        made.signed("other", "subjectAltName=DNS:elsewhere.test", "-days 2");
        made.signed("expired", "subjectAltName=IP:127.0.0.1", "-days -1");
        made.signed("client-expired", "extendedKeyUsage=clientAuth", "-days -1");
        made
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub fn text(&self, file: &str) -> String {
        self.path(file).to_string_lossy().into_owned()
    }

    fn signed(&self, name: &str, extension: &str, validity: &str) {
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        self.0.file(&format!("{name}.ext"), &format!("{extension}\n"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -extfile {name}.ext \
             {validity}"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        let output = command.stdin(Stdio::null()).output().expect("openssl");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
