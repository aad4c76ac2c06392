//! `netbootd assign`, `unassign`, `once`, `forget`, `approve`, `unapprove`, `wake`, `machines` and `report`: commands to a
//! running server.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::SystemTime,
};

use chrono::{DateTime, Local};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    client::At,
    failure::{self, EX_OSERR, Failure},
};
use crate::{
    boot::hardware::Hardware,
    status::bundle,
    timeline::{boot::Step, cause::rough, moment::Moment},
};

/// Assign a profile to a machine while the server runs.
///
/// The assignment has priority over its rule.
#[derive(Debug, clap::Args)]
pub(super) struct Assign {
    /// MAC address, UUID, or the machine's name from its rule
    machine: String,
    /// A profile of the configuration, or menu, local or shell
    profile: String,
    /// Use the profile for one boot only. After the hand-over of that boot, the machine boots its local disk
    #[arg(long)]
    once: bool,
    /// Also switch the machine on with Wake-on-LAN
    #[arg(long)]
    wake: bool,
    #[command(flatten)]
    at: At,
}

/// Switch a machine on with Wake-on-LAN.
///
/// The magic packet is sent on the interface where the machine was last seen. Wake-on-LAN must be enabled in the
/// machine's firmware. No machine confirms that it received the packet.
#[derive(Debug, clap::Args)]
pub(super) struct Wake {
    /// MAC address, or the machine's name from its rule
    machine: String,
    #[command(flatten)]
    at: At,
}

/// Remove a machine's assignment, so that its rule applies again.
///
/// A one-time profile that the machine already booted stays used up: netbootd once allows it again.
#[derive(Debug, clap::Args)]
pub(super) struct Unassign {
    /// MAC address, UUID, or the machine's name from its rule
    machine: String,
    #[command(flatten)]
    at: At,
}

/// Allow a machine's one-time profile again, for one more boot.
///
/// If the rule says once = "installed", until the machine reports that it is installed. Careful: an installer erases the
/// disk again.
#[derive(Debug, clap::Args)]
pub(super) struct Once {
    /// MAC address, UUID, or the machine's name from its rule
    machine: String,
    #[command(flatten)]
    at: At,
}

impl Once {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::PUT, &format!("{}/once", path(Some(&self.machine))), None)?;
        print(&self.at, &machine, table)?;
        warn_unless_kept(&machine)
    }
}

/// Forget what was learned of a machine's firmware.
///
/// That is which offer it takes, and whether its loader has to be signed.
#[derive(Debug, clap::Args)]
pub(super) struct Forget {
    /// MAC address, UUID, or the machine's name from its rule
    machine: String,
    #[command(flatten)]
    at: At,
}

impl Forget {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::DELETE, &format!("{}/learned", path(Some(&self.machine))), None)?;
        print(&self.at, &machine, table)
    }
}

/// Approve a machine that no rule names.
///
/// This is needed only with dhcp.answer = "known".
#[derive(Debug, clap::Args)]
pub(super) struct Approve {
    /// MAC address, UUID, or the machine's name from its rule
    machine: String,
    #[command(flatten)]
    at: At,
}

/// Remove a machine's approval.
#[derive(Debug, clap::Args)]
pub(super) struct Unapprove {
    /// MAC address, UUID, or the machine's name from its rule
    machine: String,
    #[command(flatten)]
    at: At,
}

/// Show the machines that were seen, that a rule names, or that have an assignment.
#[derive(Debug, clap::Args)]
pub(super) struct Machines {
    /// Show one machine only: MAC address, UUID, or its name from its rule
    machine: Option<String>,
    /// Show only machines whose name, address or hardware contains all of these words
    #[arg(long, value_name = "WORDS", conflicts_with = "machine")]
    find: Option<String>,
    /// Also show machines that were seen long ago, by any of the appliances that share the state
    #[arg(long, conflicts_with = "machine")]
    all: bool,
    /// Show the hardware of each machine instead of its profile
    #[arg(long, conflicts_with = "machine")]
    inventory: bool,
    #[command(flatten)]
    at: At,
}

/// Write a report about a machine for a bug report or a question.
///
/// It has its boots, its last packets and its configuration. Half of each address is masked, and names, users in URLs and
/// values of what looks like a secret (password=…). Read the report before you share it.
#[derive(Debug, clap::Args)]
pub(super) struct Report {
    /// MAC address, UUID, or the machine's name from its rule
    machine: String,
    #[command(flatten)]
    at: At,
}

impl Report {
    pub(super) fn run(self) -> Result<(), Failure> {
        let bundle = self.at.ask(Method::GET, &format!("{}/report", path(Some(&self.machine))), None)?;
        print(&self.at, &bundle, |bundle, _| bundle::text(bundle))
    }
}

impl Assign {
    pub(super) fn run(self) -> Result<(), Failure> {
        let body = json!({ "profile": self.profile, "once": self.once });
        let machine = self.at.ask(Method::PUT, &format!("{}/assignment", path(Some(&self.machine))), Some(&body))?;
        print(&self.at, &machine, table)?;
        warn_unless_kept(&machine)?;
        if !self.wake {
            return Ok(());
        }
        // With two JSON values, a program could parse neither. So only the assignment is printed.
        let woken = wake(&self.at, &self.machine)?;
        if self.at.json { Ok(()) } else { failure::print(&woken_text(&woken, SystemTime::now())) }
    }
}

impl Wake {
    pub(super) fn run(self) -> Result<(), Failure> {
        let woken = wake(&self.at, &self.machine)?;
        print(&self.at, &woken, woken_text)
    }
}

fn wake(at: &At, machine: &str) -> Result<Value, Failure> {
    at.ask(Method::POST, &format!("{}/wake", path(Some(machine))), None)
}

fn woken_text(woken: &Value, _: SystemTime) -> String {
    let cards = woken.get("cards").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let interface = woken.get("interface").and_then(Value::as_str).unwrap_or_default();
    format!("magic packet sent on {interface} for {}\n", cards.collect::<Vec<_>>().join(", "))
}

impl Unassign {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::DELETE, &format!("{}/assignment", path(Some(&self.machine))), None)?;
        print(&self.at, &machine, table)?;
        warn_unless_kept(&machine)
    }
}

impl Approve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::PUT, &format!("{}/approval", path(Some(&self.machine))), None)?;
        print(&self.at, &machine, table)?;
        warn_unless_kept(&machine)
    }
}

impl Unapprove {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::DELETE, &format!("{}/approval", path(Some(&self.machine))), None)?;
        print(&self.at, &machine, table)?;
        warn_unless_kept(&machine)
    }
}

impl Machines {
    pub(super) fn run(self) -> Result<(), Failure> {
        let find = self.find.map(|words| format!("q={}", utf8_percent_encode(&words, NON_ALPHANUMERIC)));
        let wishes: Vec<String> = find.into_iter().chain(self.all.then(|| "all=true".to_owned())).collect();
        let path = format!("{}?{}", path(self.machine.as_deref()), wishes.join("&"));
        let answer = self.at.ask(Method::GET, &path, None)?;
        let one = |answer: &Value, now| format!("{}{}{}", table(answer, now), parts(answer), boots(answer));
        let all = if self.inventory { inventory } else { table };
        print(&self.at, &answer, if self.machine.is_some() { one } else { all })
    }
}

fn print(at: &At, answer: &Value, text: fn(&Value, SystemTime) -> String) -> Result<(), Failure> {
    failure::print(&if at.json { format!("{answer:#}\n") } else { text(answer, SystemTime::now()) })
}

/// The change was made, but the server cannot keep it over a restart: it has no state file (as on a laptop).
fn warn_unless_kept(machine: &Value) -> Result<(), Failure> {
    if machine.get("kept") == Some(&Value::Bool(false)) {
        let words =
            "netbootd: warning: the server has no state file and loses this change when it stops: set state.url\n";
        io::stderr().write_all(words.as_bytes()).map_err(|error| Failure::new(EX_OSERR, error))?;
    }
    Ok(())
}

fn path(machine: Option<&str>) -> String {
    let below = machine.map(|machine| format!("/{}", utf8_percent_encode(machine, NON_ALPHANUMERIC)));
    format!("/api/v1/machines{}", below.unwrap_or_default())
}

/// One line for each machine, below a heading.
fn table(answer: &Value, now: SystemTime) -> String {
    let one;
    let machines: &[Value] = match answer {
        Value::Array(machines) => machines,
        machine => {
            one = [machine.clone()];
            &one
        }
    };
    let text = |machine: &Value, key: &str| machine.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    // A UUID, where that alone says which machine it is, is longer.
    let width = machines.iter().map(|machine| text(machine, "id").chars().count()).max().unwrap_or_default().max(17);
    let mut table = format!("{:<width$}  {:<16}  {:<24}  {}\n", "MACHINE", "NAME", "PROFILE", "LAST SEEN");
    for machine in machines {
        let text = |key: &str| text(machine, key);
        let is = |key: &str| machine.get(key).and_then(Value::as_bool).unwrap_or_default();
        let how = match text("by").as_str() {
            "assignment" if is("once") => " (assigned, once)",
            "assignment" => " (assigned)",
            "spent" => " (one-time done)",
            "tried" => " (stopped: no report \"installed\")",
            _ if is("until_installed") => " (until installed)",
            _ if is("once") => " (once)",
            _ => "",
        };
        let last = machine.get("last").filter(|last| !last.is_null()).map_or("never".to_owned(), |last| {
            let of = |key: &str| last.get(key).and_then(Value::as_str).unwrap_or_default();
            let at =
                last.get("at").and_then(|at| serde_json::from_value::<Moment>(at.clone()).ok()).unwrap_or_default();
            let ago = Moment::from(now).since(at).as_secs();
            let failed = if last.get("failed") == Some(&Value::Bool(true)) { "!" } else { "" };
            let by = machine.get("appliance").and_then(Value::as_str).map(|name| format!(" ({name})"));
            format!("{} ago  {failed}{}: {}{}", rough(ago), of("stage"), of("text"), by.unwrap_or_default())
        });
        let let_in = if is("approved") { " (approved)" } else { "" };
        let profile = match text("depends_on").as_str() {
            "-" => text("profile"),
            fact => format!("depends on its {fact}"),
        };
        let boots = format!("{profile}{how}{let_in}");
        let _ = writeln!(table, "{:<width$}  {:<16}  {boots:<24}  {last}", text("id"), text("name"));
    }
    table
}

/// The hardware of all machines, one line for each.
fn inventory(answer: &Value, _: SystemTime) -> String {
    let titles = ["MANUFACTURER", "PRODUCT", "ASSET", "BOARD SERIAL", "CARD", "CARD ID", "MIB"];
    let keys = ["manufacturer", "product", "asset", "board_serial", "chip", "busid", "memory_mib"];
    let rows = answer.as_array().into_iter().flatten().map(|machine| {
        let text = |pointer: &str| match machine.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => "-".to_owned(),
        };
        ["/id".to_owned(), "/name".to_owned()]
            .into_iter()
            .chain(keys.map(|key| format!("/hardware/{key}")))
            .map(|at| text(&at))
            .collect()
    });
    let head = ["MACHINE", "NAME"].into_iter().chain(titles).map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(i, cell)| format!("{cell:<0$}", width(i).unwrap_or_default()));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The hardware of one machine.
fn parts(machine: &Value) -> String {
    let hardware =
        machine.get("hardware").and_then(|hardware| serde_json::from_value::<Hardware>(hardware.clone()).ok());
    let hardware = hardware.unwrap_or_default();
    hardware.known().map(|(name, text)| format!("  {name:<14} {text}\n")).collect()
}

/// All known boots of a machine, the newest first, with their steps and the cause of a stop.
fn boots(machine: &Value) -> String {
    let mut text = String::new();
    for boot in machine.get("boots").and_then(Value::as_array).into_iter().flatten() {
        let word = |pointer: &str| boot.pointer(pointer).and_then(Value::as_str);
        let number = boot.get("number").and_then(Value::as_u64).unwrap_or_default();
        let client = word("/client").map(|client| format!(", {client}")).unwrap_or_default();
        let by = word("/appliance").map(|name| format!(", served by {name}")).unwrap_or_default();
        let _ =
            writeln!(text, "\nboot {number}: {}{client}{by}", word("/state").unwrap_or("unknown").replace('_', " "));
        let steps = boot.get("steps").and_then(|steps| serde_json::from_value::<Vec<Step>>(steps.clone()).ok());
        for Step { at, stage, text: words, failed } in steps.unwrap_or_default() {
            let mark = if failed { '!' } else { ' ' };
            let _ = writeln!(text, "  {} {mark} {:<12} {words}", clock(at), stage.name());
        }
        if let Some(cause) = word("/stop/text") {
            let _ = writeln!(text, "  probably: {cause}");
        }
        if let Some(fix) = word("/stop/fix") {
            let _ = writeln!(text, "  fix: {fix}");
        }
    }
    text
}

fn clock(at: Moment) -> String {
    DateTime::<Local>::from(SystemTime::from(at)).format("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_inventory_has_a_column_for_each_part() {
        let machines = json!([
            { "id": "52:54:00:12:34:56", "name": "k8s08", "hardware": { "manufacturer": "Dell Inc.", "busid": "8086:100e", "memory_mib": 512 } },
            { "id": "52:54:00:12:34:57", "name": null, "hardware": {} },
        ]);
        assert_eq!(
            inventory(&machines, SystemTime::UNIX_EPOCH),
            "MACHINE            NAME   MANUFACTURER  PRODUCT  ASSET  BOARD SERIAL  CARD  CARD ID    MIB\n\
             52:54:00:12:34:56  k8s08  Dell Inc.     -        -      -             -     8086:100e  512\n\
             52:54:00:12:34:57  -      -             -        -      -             -     -          -\n"
        );
    }

    #[test]
    fn machines_are_shown_as_a_table() {
        let last = json!({ "at": 1_000_000, "stage": "kernel", "text": "vmlinuz, 12.0 MB", "failed": false });
        let machines = json!([
            { "id": "52:54:00:12:34:56", "name": "k8s08", "profile": "debian", "by": "rule", "once": true, "last": last },
            { "id": "52:54:00:12:34:57", "name": null, "profile": "local", "by": "spent", "once": false, "last": null },
            { "id": "52:54:00:12:34:58", "profile": "menu", "by": "default", "approved": true, "last": null },
            { "id": "52:54:00:12:34:5a", "profile": null, "depends_on": "architecture", "last": null },
            { "id": "52:54:00:12:34:59", "profile": null, "by": null, "approved": false, "last": null },
        ]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_300);
        assert_eq!(
            table(&machines, now),
            "MACHINE            NAME              PROFILE                   LAST SEEN\n\
             52:54:00:12:34:56  k8s08             debian (once)             5 min ago  kernel: vmlinuz, 12.0 MB\n\
             52:54:00:12:34:57  -                 local (one-time done)     never\n\
             52:54:00:12:34:58  -                 menu (approved)           never\n\
             52:54:00:12:34:5a  -                 depends on its architecture  never\n\
             52:54:00:12:34:59  -                 -                         never\n"
        );
        let of_a_uuid =
            json!({ "id": "4c4c4544-0042-3510-8052-b4c04f564e31", "mac": "52:54:00:12:34:56", "profile": "menu" });
        assert_eq!(
            table(&of_a_uuid, now),
            "MACHINE                               NAME              PROFILE                   LAST SEEN\n\
             4c4c4544-0042-3510-8052-b4c04f564e31  -                 menu                      never\n"
        );
    }
}
