//! The configuration file's shape. A default stands beside its reason.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Interfaces to serve; none: the only one that fits is chosen.
    pub interfaces: Vec<String>,
    /// The folder that HTTP serves under `/assets/`; profiles name files in it.
    pub assets: Option<PathBuf>,
    /// For machines that no rule names. The menu, so that a machine that was never meant to be installed is not.
    pub default_profile: String,
    /// Folders to look for iPXE binaries in, before the places of the distributions' packages.
    pub loader_dirs: Vec<PathBuf>,
    /// The HTTP stage.
    pub http: Http,
    /// What can be booted.
    pub profiles: BTreeMap<String, Profile>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            assets: None,
            default_profile: "menu".into(),
            loader_dirs: Vec::new(),
            http: Http::default(),
            profiles: BTreeMap::new(),
        }
    }
}

/// The HTTP stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// TCP port. 8080, because 80 is often some other web server's.
    pub port: u16,
    /// Base of all URLs that clients are given; none: the address of the interface that the client is on.
    pub base_url: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self { port: 8080, base_url: None }
    }
}

/// Something to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Path below the assets folder.
    pub kernel: String,
    /// Paths below the assets folder.
    pub initrd: Vec<String>,
    /// Template: `machine.mac`, `machine.name`, `machine.arch`.
    pub cmdline: String,
}
