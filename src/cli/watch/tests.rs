use super::*;

/// A directory with a file that is watched, as a deployment has it.
struct Deployment {
    directory: PathBuf,
    ask: Sender<ReloadEvent>,
    changes: mpsc::Receiver<ConfigChange>,
}

fn text(port: u16) -> String {
    format!("upstream: http://127.0.0.1:{port}\n")
}

impl Deployment {
    fn new(name: &str, lay_out: impl FnOnce(&Path)) -> Self {
        Self::with(name, lay_out, SettingOverrides::default())
    }

    fn with(name: &str, lay_out: impl FnOnce(&Path), overrides: SettingOverrides) -> Self {
        let directory = std::env::temp_dir().join(format!("larder-watch-{}-{name}", std::process::id()));
        _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        lay_out(&directory);
        let watched = ConfigWatcher::new(&directory.join("proxy.yaml"), overrides);
        let (ask, changes) = watched.start();
        Self { directory, ask, changes }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.directory.join(name), content).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.directory.join(from), self.directory.join(to)).unwrap();
    }

    async fn changed(&mut self) -> Config {
        let limit = Duration::from_secs(30);
        let change = tokio::time::timeout(limit, self.changes.recv()).await.expect("a change").expect("open");
        change.unwrap_or_else(|errors| panic!("{errors}"))
    }

    async fn reads(&mut self, port: u16) {
        let config = self.changed().await;
        assert_eq!(
            config.upstream.addresses,
            Config::parse(&text(port), "", &|_| None, &SettingOverrides::default())
                .unwrap()
                .upstream
                .addresses
        );
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test]
async fn a_file_that_is_written_in_place_is_read_again() {
    let mut deployment =
        Deployment::new("in-place", |d| std::fs::write(d.join("proxy.yaml"), text(1)).unwrap());
    deployment.write("proxy.yaml", &text(2));
    deployment.reads(2).await;
}

/// A shell empties the file before the command that writes it begins.
#[tokio::test]
async fn an_empty_file_is_an_error_although_a_flag_names_the_upstream() {
    let upstream = Some("http://127.0.0.1:1".to_owned());
    let overrides = SettingOverrides { upstream, ..SettingOverrides::default() };
    let lay_out = |directory: &Path| std::fs::write(directory.join("proxy.yaml"), text(1)).unwrap();
    let mut deployment = Deployment::with("empty", lay_out, overrides);
    deployment.write("proxy.yaml", "\n");
    let limit = Duration::from_secs(30);
    let change =
        tokio::time::timeout(limit, deployment.changes.recv()).await.expect("a change").expect("open");
    let errors = change.expect_err("an empty file").to_string();
    assert!(errors.contains("the file is empty"), "{errors}");
    deployment.write("proxy.yaml", "purge: {parents: false}\n");
    deployment.reads(1).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_by_renaming_is_read_again_each_time() {
    let mut deployment =
        Deployment::new("rename", |d| std::fs::write(d.join("proxy.yaml"), text(1)).unwrap());
    for port in 2..5 {
        deployment.write("proxy.yaml.new", &text(port));
        deployment.rename("proxy.yaml.new", "proxy.yaml");
        deployment.reads(port).await;
    }
}

/// The kubelet makes the file a link through `..data`, and replaces that.
#[tokio::test]
async fn a_config_map_that_is_replaced_is_read_again() {
    use std::os::unix::fs::symlink;
    let mut deployment = Deployment::new("config-map", |d| {
        std::fs::create_dir(d.join("..1")).unwrap();
        std::fs::write(d.join("..1/proxy.yaml"), text(1)).unwrap();
        symlink("..1", d.join("..data")).unwrap();
        symlink("..data/proxy.yaml", d.join("proxy.yaml")).unwrap();
    });
    for version in 2..4 {
        let name = format!("..{version}");
        std::fs::create_dir(deployment.directory.join(&name)).unwrap();
        deployment.write(&format!("{name}/proxy.yaml"), &text(version));
        symlink(&name, deployment.directory.join("..data_tmp")).unwrap();
        deployment.rename("..data_tmp", "..data");
        std::fs::remove_dir_all(deployment.directory.join(format!("..{}", version - 1))).unwrap();
        deployment.reads(version).await;
    }
}

#[tokio::test]
async fn only_who_asks_gets_a_file_that_has_not_changed() {
    let mut deployment = Deployment::new("asked", |d| std::fs::write(d.join("proxy.yaml"), text(1)).unwrap());
    deployment.write("another", "file");
    deployment.ask.send(ReloadEvent::ReloadRequested).unwrap();
    deployment.reads(1).await;
    assert!(deployment.changes.is_empty());
}

#[tokio::test]
async fn a_file_that_is_wrong_or_gone_is_told_as_such() {
    let mut deployment = Deployment::new("wrong", |d| std::fs::write(d.join("proxy.yaml"), text(1)).unwrap());
    deployment.write("proxy.yaml", "upstream: nowhere");
    let errors = deployment.changes.recv().await.unwrap().unwrap_err();
    assert!(errors.summary().contains("proxy.yaml:1"), "{}", errors.summary());
    std::fs::remove_file(deployment.directory.join("proxy.yaml")).unwrap();
    assert!(deployment.changes.recv().await.unwrap().unwrap_err().summary().contains("can't be read"));
}

#[tokio::test]
async fn certificates_of_the_upstream_are_watched() {
    let named = |directory: &Path, ca: &str| {
        let ca = directory.join(ca);
        format!("upstream: {{url: 'https://127.0.0.1:1', tls: {{ca: {}}}}}\n", ca.display())
    };
    let mut deployment = Deployment::new("upstream", |d| {
        std::fs::create_dir(d.join("certificates")).unwrap();
        std::fs::create_dir(d.join("others")).unwrap();
        for file in ["certificates/ca.pem", "others/ca.pem"] {
            std::fs::write(d.join(file), "first").unwrap();
        }
        std::fs::write(d.join("proxy.yaml"), named(d, "certificates/ca.pem")).unwrap();
    });
    // The watcher reads the configuration at the first request.
    deployment.ask.send(ReloadEvent::ReloadRequested).unwrap();
    deployment.changed().await;
    deployment.write("certificates/ca.pem", "second");
    deployment.changed().await;
    deployment.write("new.pem", "third");
    deployment.rename("new.pem", "certificates/ca.pem");
    deployment.changed().await;
    let other = named(&deployment.directory, "others/ca.pem");
    deployment.write("proxy.yaml", &other);
    deployment.changed().await;
    deployment.write("others/ca.pem", "second");
    deployment.changed().await;
}
