//! `weir profile`: settings of ports under a name.
//!
//! A profile lies in the database, as `Open_vSwitch.external_ids:profile-NAME`, written as it is given to `add`. It is carried
//! out when it is applied: what a profile can say and this one does not is set back to its default, so that a port is what its
//! profile says. The port remembers the name as `Port.external_ids:profile`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Parser, Subcommand};
use ovsdb::Client;
use serde_json::{Map, Value, json};

use crate::paths;
use crate::vm::{database, runtime};

/// Before the name of a profile, in `Open_vSwitch.external_ids`.
const KEY: &str = "profile-";
/// What `Port.external_ids` calls the profile of a port.
const APPLIED: &str = "profile";
/// Most characters of a name.
const NAME_MAX: usize = 64;

#[derive(Parser)]
#[command(
    name = "weir profile",
    about = "Settings of ports under a name",
    after_help = "settings: tag=VLAN, trunks=VLAN,VLAN,..., vlan_mode=MODE, protected=true, \
        ingress_policing_rate=KBPS, ingress_policing_burst=KBIT, ingress_policing_kpkts_rate=N, \
        ingress_policing_kpkts_burst=N, qos=UUID\n\n\
        example:\n  \
        weir profile add vlan-finance tag=10\n  \
        weir profile add vlan-marketing trunks=20,30\n  \
        weir profile apply vlan-finance fed1\n  \
        weir vm run alice --bridge br0 --port alice0 --profile vlan-finance --detach\n  \
        weir profile list\n\n\
        A profile that is changed or deleted changes no port: apply it anew.\n\n\
        exit status: 0 if all went well, 1 if not, 2 if the command line is wrong"
)]
struct Cli {
    /// Run directory of the switch [default: $OVS_RUNDIR, /run/weir or $XDG_RUNTIME_DIR/weir]
    #[arg(long, global = true, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// The database [default: unix:RUNDIR/db.sock]
    #[arg(long, global = true, value_name = "TARGET")]
    db: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Define a profile
    Add {
        /// Its name
        name: String,
        /// What ports are set to; nothing for a port without VLANs
        #[arg(value_name = "SETTING=VALUE")]
        settings: Vec<String>,
        /// Take the place of a profile of this name
        #[arg(long)]
        replace: bool,
    },
    /// List the profiles, and which ports have them
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a profile; ports that have it stay as they are
    Del {
        /// Its name
        name: String,
    },
    /// Set ports to what a profile says
    Apply {
        /// The profile's name
        name: String,
        /// The ports
        #[arg(required = true, value_name = "PORT")]
        ports: Vec<String>,
    },
}

/// What a setting's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Vlan,
    Vlans,
    Mode,
    Flag,
    Number,
    Row,
}

/// Every setting: its column, whether that is the interface's rather than the port's, and what it holds.
const SETTINGS: [(&str, bool, Kind); 9] = [
    ("tag", false, Kind::Vlan),
    ("trunks", false, Kind::Vlans),
    ("vlan_mode", false, Kind::Mode),
    ("protected", false, Kind::Flag),
    ("qos", false, Kind::Row),
    ("ingress_policing_rate", true, Kind::Number),
    ("ingress_policing_burst", true, Kind::Number),
    ("ingress_policing_kpkts_rate", true, Kind::Number),
    ("ingress_policing_kpkts_burst", true, Kind::Number),
];
const MODES: [&str; 5] = [
    "access",
    "dot1q-tunnel",
    "native-tagged",
    "native-untagged",
    "trunk",
];

impl Kind {
    /// A value as the database has it.
    fn read(self, text: &str) -> Option<Value> {
        let vlan = |t: &str| t.trim().parse::<u16>().ok().filter(|n| *n < 4096);
        Some(match self {
            Kind::Vlan => json!(vlan(text)?),
            Kind::Vlans => {
                let list: Option<Vec<u16>> = text.split(',').map(vlan).collect();
                json!(["set", list?])
            }
            Kind::Mode => json!(MODES.iter().find(|m| **m == text)?),
            Kind::Flag => json!(text.parse::<bool>().ok()?),
            Kind::Number => json!(text.parse::<u32>().ok()?),
            Kind::Row => json!(["uuid", text.parse::<ovsdb::Uuid>().ok()?.to_string()]),
        })
    }

    /// The value of a column that nobody set.
    fn default(self) -> Value {
        match self {
            Kind::Flag => json!(false),
            Kind::Number => json!(0),
            _ => json!(["set", []]),
        }
    }

    fn right(self) -> &'static str {
        match self {
            Kind::Vlan => "a VLAN, 0 to 4095",
            Kind::Vlans => "VLANs, 0 to 4095, with commas between them",
            Kind::Mode => "one of access, dot1q-tunnel, native-tagged, native-untagged, trunk",
            Kind::Flag => "true or false",
            Kind::Number => "a number up to 4294967295",
            Kind::Row => "the UUID of a QoS row",
        }
    }
}

/// A profile.
pub struct Profile {
    /// Its name.
    name: String,
    /// Its settings, by column.
    settings: Vec<(String, String)>,
}

impl Profile {
    fn new(name: &str, settings: &[impl AsRef<str>]) -> Result<Profile> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        ensure!(
            !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(plain),
            "profile name {name:?}: up to {NAME_MAX} letters, digits, '.', '_' and '-' are allowed"
        );
        let mut profile = Profile {
            name: name.to_owned(),
            settings: Vec::new(),
        };
        for setting in settings {
            let setting = setting.as_ref();
            let (column, value) = setting
                .split_once('=')
                .with_context(|| format!("setting {setting:?}: say COLUMN=VALUE, as in tag=10"))?;
            let known = SETTINGS.iter().find(|s| s.0 == column);
            let Some((_, _, kind)) = known else {
                let names: Vec<&str> = SETTINGS.iter().map(|s| s.0).collect();
                bail!("setting {column}: known are {}", names.join(", "));
            };
            ensure!(
                kind.read(value).is_some(),
                "setting {column}: {value:?} is not {}",
                kind.right()
            );
            ensure!(
                profile.settings.iter().all(|s| s.0 != column),
                "setting {column} is given twice"
            );
            profile.settings.push((column.to_owned(), value.to_owned()));
        }
        Ok(profile)
    }

    /// The columns of a port, or of its interface, that is as it says.
    pub fn columns(&self, interface: bool) -> Map<String, Value> {
        let of = SETTINGS.iter().filter(|s| s.1 == interface);
        of.map(|(column, _, kind)| {
            let given = self.settings.iter().find(|s| s.0 == *column);
            let value = given.and_then(|s| kind.read(&s.1));
            (
                (*column).to_owned(),
                value.unwrap_or_else(|| kind.default()),
            )
        })
        .collect()
    }

    /// How a port remembers it.
    pub fn mark(&self) -> [&str; 2] {
        [APPLIED, &self.name]
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self
            .settings
            .iter()
            .map(|(column, value)| format!("{column}={value}"))
            .collect();
        f.write_str(&words.join(" "))
    }
}

/// A selected row.
type Row = BTreeMap<String, Value>;

/// The pairs of a map that a selected row has in `external_ids`.
fn ids(row: &Row) -> Vec<(String, String)> {
    let pairs = row.get("external_ids").and_then(|m| m.get(1)?.as_array());
    let text = |v: &Value| v.as_str().map(str::to_owned);
    pairs
        .into_iter()
        .flatten()
        .filter_map(|p| Some((text(p.get(0)?)?, text(p.get(1)?)?)))
        .collect()
}

async fn rows(client: &Client, table: &str, columns: &[&str]) -> Result<Vec<Row>> {
    let op = json!({"op": "select", "table": table, "where": [], "columns": columns});
    let outcome = database::transact(client, vec![op]).await?;
    let found = outcome.results.into_iter().next().and_then(|r| r.rows);
    Ok(found.unwrap_or_default())
}

/// All profiles, in order of their names.
async fn all(client: &Client) -> Result<Vec<Profile>> {
    let mut profiles = Vec::new();
    for row in rows(client, "Open_vSwitch", &["external_ids"]).await? {
        for (key, value) in ids(&row) {
            let Some(name) = key.strip_prefix(KEY) else {
                continue;
            };
            let words: Vec<&str> = value.split_whitespace().collect();
            let profile = Profile::new(name, &words);
            profiles.push(profile.with_context(|| format!("external_ids:{key}"))?);
        }
    }
    profiles.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(profiles)
}

/// The profile of a name.
///
/// # Errors
/// There is none.
pub async fn named(client: &Client, name: &str) -> Result<Profile> {
    let profiles = all(client).await?;
    let names: Vec<String> = profiles.iter().map(|p| p.name.clone()).collect();
    profiles
        .into_iter()
        .find(|p| p.name == name)
        .ok_or_else(|| match names.is_empty() {
            true => anyhow!("there is no profile {name} (\"weir profile add {name}\" makes one)"),
            false => anyhow!("there is no profile {name}, only {}", names.join(", ")),
        })
}

/// Operations on a profile's place in the database: taken out, and put in if there is one to put in.
fn place(name: &str, profile: Option<&Profile>) -> Value {
    let key = format!("{KEY}{name}");
    let mut changes = vec![json!(["external_ids", "delete", ["set", [key]]])];
    if let Some(p) = profile {
        changes.push(json!([
            "external_ids",
            "insert",
            ["map", [[key, p.to_string()]]]
        ]));
    }
    json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": changes})
}

async fn add(client: &Client, profile: &Profile, replace: bool) -> Result<()> {
    let there = all(client).await?.iter().any(|p| p.name == profile.name);
    ensure!(
        replace || !there,
        "there is a profile {} already (--replace takes its place)",
        profile.name
    );
    database::transact(client, vec![place(&profile.name, Some(profile))]).await?;
    Ok(())
}

async fn list(client: &Client, json: bool) -> Result<()> {
    let mut users: Vec<(String, String)> = Vec::new();
    for row in rows(client, "Port", &["name", "external_ids"]).await? {
        let port = row.get("name").and_then(Value::as_str).unwrap_or_default();
        let applied = ids(&row).into_iter().find(|(key, _)| key == APPLIED);
        users.extend(applied.map(|(_, profile)| (profile, port.to_owned())));
    }
    users.sort();
    let profiles = all(client).await?;
    let ports = |p: &Profile| -> Vec<&str> {
        let own = users.iter().filter(|u| u.0 == p.name);
        own.map(|u| u.1.as_str()).collect()
    };
    if json {
        let list: Vec<Value> = profiles
            .iter()
            .map(|p| {
                let settings: Map<String, Value> = p
                    .settings
                    .iter()
                    .map(|(column, value)| (column.clone(), json!(value)))
                    .collect();
                json!({"name": p.name, "settings": settings, "ports": ports(p)})
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    let width = profiles.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let wide = profiles.iter().map(|p| p.to_string().len()).max();
    let wide = wide.unwrap_or(0).max("SETTINGS".len());
    let width = width.max("PROFILE".len());
    println!("{:width$}  {:wide$}  PORTS", "PROFILE", "SETTINGS");
    for p in &profiles {
        let line = format!(
            "{:width$}  {:wide$}  {}",
            p.name,
            p.to_string(),
            ports(p).join(" ")
        );
        println!("{}", line.trim_end());
    }
    Ok(())
}

async fn apply(client: &Client, name: &str, ports: &[String]) -> Result<()> {
    let profile = named(client, name).await?;
    let mut asked = Vec::new();
    for port in ports {
        asked.push(database::select("Port", port, &["_uuid", "interfaces"]));
    }
    let known = database::transact(client, asked).await?;
    let mut ops = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let row = known.results.get(i).and_then(|r| r.rows.as_ref()?.first());
        let row = row.with_context(|| format!("there is no port {port}"))?;
        let (uuid, interfaces) = (&row["_uuid"], &row["interfaces"]);
        // One reference, or a set of them.
        let interfaces = match interfaces.get(0).and_then(Value::as_str) {
            Some("set") => interfaces.get(1).and_then(Value::as_array).cloned(),
            _ => Some(vec![interfaces.clone()]),
        };
        let same = |uuid: &Value| json!([["_uuid", "==", uuid]]);
        ops.push(json!({"op": "update", "table": "Port", "where": same(uuid),
            "row": profile.columns(false)}));
        ops.push(
            json!({"op": "mutate", "table": "Port", "where": same(uuid), "mutations": [
            ["external_ids", "delete", ["set", [APPLIED]]],
            ["external_ids", "insert", ["map", [profile.mark()]]]]}),
        );
        for interface in interfaces.unwrap_or_default() {
            ops.push(
                json!({"op": "update", "table": "Interface", "where": same(&interface),
                "row": profile.columns(true)}),
            );
        }
    }
    ops.push(database::touch());
    ops.push(json!({"op": "comment", "comment": format!("weir profile apply {name}")}));
    database::transact(client, ops).await?;
    Ok(())
}

/// Runs `weir profile`.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let words = std::iter::once("weir profile".into()).chain(args);
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let target = cli.db.unwrap_or_else(|| {
        let run_dir = paths::run_dir(cli.run_dir.as_deref());
        format!("unix:{}", run_dir.join("db.sock").display())
    });
    let done = runtime().and_then(|r| {
        r.block_on(async {
            // What can be said without the database is said first.
            let new = match &cli.action {
                Action::Add { name, settings, .. } => Some(Profile::new(name, settings)?),
                _ => None,
            };
            let client = database::connect(&target).await?;
            match cli.action {
                Action::Add { replace, .. } => match new {
                    Some(profile) => add(&client, &profile, replace).await,
                    None => Ok(()),
                },
                Action::List { json } => list(&client, json).await,
                Action::Del { name } => {
                    named(&client, &name).await?;
                    database::transact(&client, vec![place(&name, None)]).await?;
                    Ok(())
                }
                Action::Apply { name, ports } => apply(&client, &name, &ports).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("weir profile: {e:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_says_every_column_and_reads_as_it_is_written() {
        let p = Profile::new("vlan-marketing", &["trunks=20,30", "protected=true"]).unwrap();
        assert_eq!(p.to_string(), "trunks=20,30 protected=true");
        let port = p.columns(false);
        assert_eq!(port["trunks"], json!(["set", [20, 30]]));
        assert_eq!(port["tag"], json!(["set", []]));
        assert_eq!(port["protected"], json!(true));
        assert_eq!(p.columns(true)["ingress_policing_rate"], json!(0));
        assert_eq!(port.len() + p.columns(true).len(), SETTINGS.len());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let error = |settings: &[&str]| Profile::new("p", settings).err().unwrap().to_string();
        assert_eq!(
            error(&["tag=4096"]),
            "setting tag: \"4096\" is not a VLAN, 0 to 4095"
        );
        assert!(error(&["colour=red"]).starts_with("setting colour: known are tag, trunks"));
        assert!(error(&["tag"]).contains("COLUMN=VALUE"));
        assert!(error(&["tag=1", "tag=2"]).contains("twice"));
        assert!(Profile::new("a b", &[""; 0]).is_err());
    }
}
