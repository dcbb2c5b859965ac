//! Where the configuration and the state directory are when nobody says.

use std::path::{Path, PathBuf};

/// What a configuration is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// A text in hand, named for messages; relative paths in it start at `folder`.
    Text {
        name: String,
        text: String,
        folder: PathBuf,
    },
    /// Nothing is configured.
    Defaults,
}

impl Source {
    /// The file that `--config` names, else `./pixtoll.yaml`, else
    /// `$XDG_CONFIG_HOME/pixtoll/pixtoll.yaml` (by default below `~/.config`), else none.
    ///
    /// A file that was asked for by name is taken even if it is not there, so that it is missed.
    pub fn find(named: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Source {
        Source::find_from(Path::new(""), named, env)
    }

    fn find_from(
        here: &Path,
        named: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Source {
        if let Some(named) = named {
            return Source::File(named.to_owned());
        }
        let usual = base(env, "XDG_CONFIG_HOME", ".config");
        let places = [
            Some(here.join("pixtoll.yaml")),
            usual.map(|base| base.join("pixtoll").join("pixtoll.yaml")),
        ];
        let found = places.into_iter().flatten().find(|path| path.is_file());
        found.map_or(Source::Defaults, Source::File)
    }
}

/// `$XDG_STATE_HOME/pixtoll`, by default below `~/.local/state`; `None` without a home.
pub fn state_dir(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    base(env, "XDG_STATE_HOME", ".local/state").map(|base| base.join("pixtoll"))
}

/// The user's own directory.
pub(super) fn home(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    ["HOME", "USERPROFILE"]
        .into_iter()
        .filter_map(env)
        .find(|home| !home.is_empty())
        .map(PathBuf::from)
}

/// A base directory by the XDG rules: a relative path in the variable counts as none.
fn base(env: &dyn Fn(&str) -> Option<String>, variable: &str, below_home: &str) -> Option<PathBuf> {
    env(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home(env).map(|home| home.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_configuration_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (here, home, xdg) = (
            dir.path().join("here"),
            dir.path().join("home"),
            dir.path().join("xdg"),
        );
        let env = |name: &str| match name {
            "HOME" => Some(home.display().to_string()),
            _ => None,
        };
        let with_xdg = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some(xdg.display().to_string()),
            other => env(other),
        };
        let find = |env: &dyn Fn(&str) -> Option<String>| Source::find_from(&here, None, env);
        assert_eq!(find(&env), Source::Defaults);
        let expect = |path: PathBuf, env: &dyn Fn(&str) -> Option<String>| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            assert_eq!(find(env), Source::File(path));
        };
        expect(home.join(".config/pixtoll/pixtoll.yaml"), &env);
        expect(xdg.join("pixtoll/pixtoll.yaml"), &with_xdg);
        expect(here.join("pixtoll.yaml"), &with_xdg);
        let named = Path::new("other.yaml");
        let found = Source::find_from(&here, Some(named), &with_xdg);
        assert_eq!(found, Source::File(named.to_owned()));
    }

    #[test]
    fn state_lies_where_the_desktop_rules_say() {
        let env = |state: &'static str, home: &'static str| {
            move |name: &str| match name {
                "XDG_STATE_HOME" => Some(state.to_owned()),
                "HOME" => Some(home.to_owned()),
                _ => None,
            }
        };
        let at = |path: &str| Some(PathBuf::from(path));
        assert_eq!(state_dir(&env("/x", "/h")), at("/x/pixtoll"));
        assert_eq!(state_dir(&env("", "/h")), at("/h/.local/state/pixtoll"));
        assert_eq!(state_dir(&env("rel", "/h")), at("/h/.local/state/pixtoll"));
        assert_eq!(state_dir(&env("", "")), None);
    }
}
