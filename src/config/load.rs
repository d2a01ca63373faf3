//! Loading a [`Config`] from a file or a text, with overrides from the command line.

use std::path::Path;

use super::Config;
use super::diagnostics::{Diagnostic, Diagnostics, Location};
use super::errors::ConfigErrors;
use super::root::{self, Mode, RootFields};
use super::scalars::is_off;
use super::settings::Settings as _;
use super::snippet::render;
use super::variables::{self, Environment};
use super::yaml::{self, Value, YamlNode};

/// Values of flags and `LARDER_*` variables, which take precedence over the file.
#[derive(Clone, Debug, Default)]
pub struct SettingOverrides {
    /// In place of `listen`, unless it is empty.
    pub listen: Vec<String>,
    /// In place of `upstream`.
    pub upstream: Option<String>,
    /// `mode: observe` in `defaults`.
    pub(crate) observe: bool,
    /// In place of `admin.listen`.
    pub admin_listen: Option<String>,
    pub(crate) log_format: Option<String>,
    pub(crate) log_level: Option<String>,
}

impl Config {
    /// Reads a file, with the environment of this process.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        Self::load_with(path, &SettingOverrides::default())
    }

    pub(crate) fn load_with(
        path: impl AsRef<Path>,
        overrides: &SettingOverrides,
    ) -> Result<Self, ConfigErrors> {
        let (text, source) = read_file(path.as_ref(), NAME_ANOTHER)?;
        Self::parse(&text, &source, &|name| std::env::var(name).ok(), overrides)
    }

    /// Reads a file to start with it: files of TLS are tried too, since larder does not start without them.
    pub(crate) fn load_to_start(
        path: impl AsRef<Path>,
        overrides: &SettingOverrides,
    ) -> Result<Self, ConfigErrors> {
        let (text, source) = read_file(path.as_ref(), NAME_ANOTHER)?;
        Self::parse_in((&text, &source), &|name| std::env::var(name).ok(), overrides, Mode::Start)
    }

    /// Reads a file that has changed. An empty one is an error: `command > proxy.yaml` empties the file before the command
    /// writes it. A device, such as `/dev/null`, may be empty.
    pub(crate) fn reload(path: impl AsRef<Path>, overrides: &SettingOverrides) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let (text, source) = read_file(path, NAME_ANOTHER)?;
        if text.trim().is_empty() && path.is_file() {
            let help = "write the configuration; the previous one stays in use";
            return Err(file_error(&source, "the file is empty".into(), help));
        }
        Self::parse(&text, &source, &|name| std::env::var(name).ok(), overrides)
    }

    /// Reads a file; returns its warnings too. Files that it names must be there.
    pub(crate) fn check_file(
        path: impl AsRef<Path>,
        overrides: &SettingOverrides,
    ) -> Result<(Self, Vec<Finding>), ConfigErrors> {
        let (text, source) = read_file(path.as_ref(), NAME_ANOTHER)?;
        let environment = |name: &str| std::env::var(name).ok();
        let (config, warnings) = read((&text, &source), &environment, overrides, Mode::CheckFiles)?;
        let finding = |warning: Diagnostic| Finding {
            text: render("warning", &warning, &source, &text),
            diagnostic: warning,
        };
        Ok((config, warnings.into_iter().map(finding).collect()))
    }

    /// Parses a text; `source` is the file's name in errors.
    pub fn parse(
        text: &str,
        source: &str,
        environment: Environment<'_>,
        overrides: &SettingOverrides,
    ) -> Result<Self, ConfigErrors> {
        Self::parse_in((text, source), environment, overrides, Mode::Check)
    }

    fn parse_in(
        (text, source): (&str, &str),
        environment: Environment<'_>,
        overrides: &SettingOverrides,
        mode: Mode,
    ) -> Result<Self, ConfigErrors> {
        let (mut config, warnings) = read((text, source), environment, overrides, mode)?;
        config.warnings = warnings.iter().map(|warning| render("warning", warning, source, text)).collect();
        Ok(config)
    }

    /// Lints a file; see [`Config::lint`].
    pub(crate) fn lint_file(path: impl AsRef<Path>) -> Result<(Self, Vec<Finding>), ConfigErrors> {
        let (text, source) = read_file(path.as_ref(), NAME_ANOTHER)?;
        let environment = |name: &str| std::env::var(name).ok();
        Self::read_to_lint((&text, &source), &environment, &SettingOverrides::default())
    }

    /// Returns the warnings of `larder check` and the findings about valid but suspicious settings.
    pub fn lint(
        text: &str,
        source: &str,
        environment: Environment<'_>,
        overrides: &SettingOverrides,
    ) -> Result<Vec<Finding>, ConfigErrors> {
        Self::read_to_lint((text, source), environment, overrides).map(|(_, findings)| findings)
    }

    fn read_to_lint(
        (text, source): (&str, &str),
        environment: Environment<'_>,
        overrides: &SettingOverrides,
    ) -> Result<(Self, Vec<Finding>), ConfigErrors> {
        let (config, warnings) = read((text, source), environment, overrides, Mode::Lint)?;
        let finding = |warning: Diagnostic| Finding {
            text: render(&format!("warning[{}]", warning.name), &warning, source, text),
            diagnostic: warning,
        };
        Ok((config, warnings.into_iter().map(finding).collect()))
    }
}

/// The help where the configuration can't be read.
const NAME_ANOTHER: &str = "name another one with `--config FILE`";

/// Reads a file; returns its text, and its name in errors.
pub(super) fn read_file(path: &Path, help: &str) -> Result<(String, String), ConfigErrors> {
    let source = path.display().to_string();
    let bytes = std::fs::read(path)
        .map_err(|error| file_error(&source, format!("the file can't be read: {error}"), help))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| file_error(&source, "the file is not text in UTF-8".into(), "save it in UTF-8"))?;
    Ok((text, source))
}

impl ConfigErrors {
    /// An error that has no place in the file.
    pub(crate) fn without_place(source: &Path, message: String, help: &str) -> Self {
        file_error(&source.display().to_string(), message, help)
    }
}

/// An error about a file as a whole.
fn file_error(source: &str, message: String, help: &str) -> ConfigErrors {
    let diagnostics = Diagnostics::default();
    diagnostics.error(Location::Start, message).help(help);
    ConfigErrors::new(source, "", diagnostics.into_parts().0)
}

/// A warning of `larder check` or a finding of `larder lint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub(crate) diagnostic: Diagnostic,
    /// The diagnostic, rendered with its line.
    pub text: String,
}

fn read(
    (text, source): (&str, &str),
    environment: Environment<'_>,
    overrides: &SettingOverrides,
    mode: Mode,
) -> Result<(Config, Vec<Diagnostic>), ConfigErrors> {
    let diagnostics = Diagnostics::for_file(RootFields::SECTION);
    let config = yaml::parse(text, &diagnostics).and_then(|mut tree| {
        overrides.apply(&mut tree);
        variables::substitute(&mut tree, environment, &diagnostics);
        root::config(&tree, mode, &diagnostics)
    });
    match mode {
        Mode::CheckFiles => diagnostics.check_files(),
        Mode::Start => diagnostics.check_tls_files(),
        Mode::Check | Mode::Lint => {}
    }
    let (errors, warnings) = diagnostics.into_parts();
    match config {
        Some(config) if errors.is_empty() => Ok((Config { source: source.to_owned(), ..config }, warnings)),
        _ => Err(ConfigErrors::new(source, text, errors)),
    }
}

impl SettingOverrides {
    /// Puts the values into the tree, as if the file contained them.
    fn apply(&self, root: &mut YamlNode) {
        let scalar = |text: &str, name| YamlNode::scalar(text, Location::Override(name));
        if !self.listen.is_empty() {
            let location = Location::Override("--listen (LARDER_LISTEN)");
            let items = self.listen.iter().map(|text| YamlNode::scalar(text, location)).collect();
            set_value(root, &["listen"], YamlNode::new(Value::List(items), location));
        }
        if let Some(text) = &self.upstream {
            let url = scalar(text, "--upstream (LARDER_UPSTREAM)");
            let keeps_settings =
                root.entry("upstream").is_some_and(|node| matches!(node.value, Value::Mapping(_)));
            set_value(root, if keeps_settings { &["upstream", "url"] } else { &["upstream"] }, url);
        }
        if self.observe {
            set_value(root, &["defaults", "mode"], scalar("observe", "--observe"));
        }
        // `off` replaces the whole section.
        let is_off = self.admin_listen.as_ref().is_some_and(|text| text.eq_ignore_ascii_case("off"));
        let admin: &[&str] = if is_off { &["admin"] } else { &["admin", "listen"] };
        for (text, name, path) in [
            (&self.admin_listen, "--admin (LARDER_ADMIN)", admin),
            (&self.log_format, "--log-format (LARDER_LOG_FORMAT)", &["log", "format"]),
            (&self.log_level, "--log-level (LARDER_LOG)", &["log", "level"]),
        ] {
            if let Some(text) = text {
                set_value(root, path, scalar(text, name));
            }
        }
    }
}

/// Sets the value under `path`. Creates sections that are absent or `off`; a section with an error stays one.
fn set_value(node: &mut YamlNode, path: &[&str], value: YamlNode) {
    let [name, rest @ ..] = path else {
        *node = value;
        return;
    };
    if matches!(node.value, Value::Null) || node.text().is_some_and(is_off) {
        node.value = Value::Mapping(Vec::new());
    }
    let Value::Mapping(entries) = &mut node.value else { return };
    match entries.iter_mut().find(|(key, _)| key.text() == Some(name)) {
        Some((_, known)) => set_value(known, rest, value),
        None => {
            let location = value.location;
            let mut new = YamlNode::new(Value::Null, location);
            set_value(&mut new, rest, value);
            entries.push((YamlNode::scalar(*name, location), new));
        }
    }
}
