//! Which server and which database a command means.

use anyhow::{Result, bail};
use ovsdb::{Client, ClientOptions, Target};
use serde_json::{Value, json};

use crate::paths;

/// A connection for a command.
pub struct Connection {
    /// The connection.
    pub client: Client,
    /// Where it leads, as messages name it.
    pub server: String,
    /// The database; empty where the command needs none.
    pub db: String,
}

/// Whether a command works on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// It does not.
    None,
    /// On one that may be named on the command line.
    Any,
    /// On the one of this name.
    Named(String),
}

/// Connects for the command `name`, whose arguments are at least `min` many and follow an optional
/// server and an optional database in `words`; those two are taken away.
///
/// # Errors
/// No connection, or no database to choose.
pub async fn open(
    name: &str,
    min: usize,
    database: Database,
    words: &mut Vec<String>,
    options: &ClientOptions,
) -> Result<Connection> {
    let servers = take_servers(min, words);
    let (mut db, choose) = match database {
        Database::None => (String::new(), false),
        Database::Any => (String::new(), true),
        Database::Named(db) => (db, false),
    };
    let [server] = servers.as_slice() else {
        if choose {
            if words.len() <= min {
                bail!("database name is required with multiple remotes");
            }
            db = words.remove(0);
        }
        return first_that_serves(&servers, db, options).await;
    };
    let client = connect(server, options).await?;
    if choose {
        db = choose_database(&client, name, min, words).await?;
    }
    Ok(Connection {
        client,
        server: server.clone(),
        db,
    })
}

/// Takes the servers, separated by commas, from the front of `words`; the default one if there are
/// none.
pub fn take_servers(min: usize, words: &mut Vec<String>) -> Vec<String> {
    let named = words.len() > min
        && words[0].starts_with(|c: char| c.is_ascii_alphabetic())
        && words[0].contains(':');
    if !named {
        return vec![paths::default_db_target()];
    }
    words.remove(0).split(',').map(str::to_owned).collect()
}

/// Connects to a server.
///
/// # Errors
/// No such kind of server, or nobody is there.
pub async fn connect(server: &str, options: &ClientOptions) -> Result<Client> {
    let Ok(target) = server.parse::<Target>() else {
        bail!(
            "failed to connect or listen to \"{server}\" (Address family not supported by protocol)"
        );
    };
    Ok(Client::connect_with(&target, options).await?)
}

/// Connects to the first of several servers that has the database.
async fn first_that_serves(
    servers: &[String],
    db: String,
    options: &ClientOptions,
) -> Result<Connection> {
    for server in servers {
        tracing::info!(target: "reconnect", "{server}: connecting...");
        let client = match connect(server, options).await {
            Ok(client) => client,
            Err(e) => {
                tracing::info!(target: "reconnect", "{e}");
                continue;
            }
        };
        tracing::info!(target: "reconnect", "{server}: connected");
        if db.is_empty() || has_database(&client, &db).await? {
            let server = server.clone();
            return Ok(Connection { client, server, db });
        }
    }
    bail!("no servers were available")
}

async fn has_database(client: &Client, db: &str) -> Result<bool> {
    let select = json!({"op": "select", "table": "Database", "where": [["name", "==", db]]});
    let answer = client.transact_json("_Server", vec![select]).await?;
    Ok(answer[0]["rows"].as_array().is_some_and(|rows| {
        let connected = |row: &Value| row["model"] != "clustered" || row["leader"] == true;
        rows.iter().any(connected)
    }))
}

/// The database that `words` begins with, else Open_vSwitch, else the only one.
async fn choose_database(
    client: &Client,
    name: &str,
    min: usize,
    words: &mut Vec<String>,
) -> Result<String> {
    let dbs = client.list_dbs().await?;
    if words.len() > min && dbs.contains(&words[0]) {
        return Ok(words.remove(0));
    }
    if dbs.iter().any(|d| d == paths::DATABASE) {
        return Ok(paths::DATABASE.to_owned());
    }
    let mut others = dbs.into_iter().filter(|d| !d.starts_with('_'));
    match (others.next(), others.next()) {
        (Some(one), None) => Ok(one),
        _ => bail!("no default database for '{name}' command, please specify a database name"),
    }
}
