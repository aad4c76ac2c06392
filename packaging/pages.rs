//! The pages of the documentation, as they are installed: all in one folder, /usr/share/doc/netbootd.

/// A page whose links lead to where packages put what they name.
pub(crate) fn installed(page: &str) -> String {
    LINKS.iter().fold(page.to_owned(), |page, (here, there)| page.replace(&format!("]({here}"), &format!("]({there}")))
}

/// How links begin in the sources, and where that is when it is installed.
const LINKS: [(&str, &str); 7] = [
    ("packaging/docs/", ""),
    ("packaging/netbootd.toml", "/etc/netbootd/netbootd.toml"),
    ("../netbootd.toml", "/etc/netbootd/netbootd.toml"),
    ("../netbootd.schema.json", "/usr/share/netbootd/netbootd.schema.json"),
    ("../templates", "/usr/share/netbootd/templates"),
    ("../grafana-dashboard.json", "/usr/share/netbootd/grafana-dashboard.json"),
    ("../prometheus-alerts.yml", "/usr/share/netbootd/prometheus-alerts.yml"),
];
