//! Follows the kernel's interfaces, addresses, routes, neighbours and rules (rtnetlink(7)).
//!
//! A message of the kernel only says of which kind something changed; that kind is then read again, whole. So nothing can be
//! misunderstood, and messages lost in a storm (`ENOBUFS`) are no more than a reason to read everything. Reading is put off for
//! a moment, in which more changes may come, and takes at most a fifth of a processor however fast the host changes. While
//! nothing changes the task sleeps.
//!
//! Two sockets: what is asked for cannot be lost between messages that nobody asked for.

use super::Host;
use super::table::{Address, Entry, Link, Marked, Neighbour, Table};
use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, IpVersion, MulticastGroup};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// Most routes that are read: an underlay needs few, and a table of the whole Internet's would cost more than it is worth.
const ROUTES_MAX: usize = 100_000;
/// Most neighbours that are read.
const NEIGHBOURS_MAX: usize = 65_536;
/// Changes that come within this time are taken together.
const SETTLE: Duration = Duration::from_millis(3);
/// After reading, so many times as long as that took is nothing read.
const REST: u32 = 4;
/// Between attempts at a socket that cannot be opened, or ended.
const AGAIN: Duration = Duration::from_secs(10);

const LINKS: u8 = 1 << 0;
const ADDRESSES: u8 = 1 << 1;
const ROUTES: u8 = 1 << 2;
const NEIGHBOURS: u8 = 1 << 3;
const RULES: u8 = 1 << 4;
const ALL: u8 = LINKS | ADDRESSES | ROUTES | NEIGHBOURS | RULES;

const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// What has to be read again.
#[derive(Default)]
struct Stale {
    what: AtomicU8,
    told: Notify,
}

impl Stale {
    fn add(&self, what: u8) {
        self.what.fetch_or(what, Ordering::AcqRel);
        self.told.notify_one();
    }
}

/// Follows the kernel for ever, and asks it for the neighbours that are `wanted`.
pub(super) async fn run(host: Arc<Host>, mut wanted: mpsc::Receiver<(String, IpAddr)>) {
    let mut told = false;
    loop {
        let why = match follow(&host, &mut wanted).await {
            Ok(()) => "the kernel ended the conversation".to_owned(),
            Err(e) => e.to_string(),
        };
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                "the host's routes and neighbours cannot be followed ({why}): tunnels go only where ovs/route/add and \
                 tnl/neigh/set say, and changes of links are noticed later"
            );
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow(
    host: &Arc<Host>,
    wanted: &mut mpsc::Receiver<(String, IpAddr)>,
) -> Result<(), rtnetlink::Error> {
    let failed = |e: std::io::Error| rtnetlink::Error::NamespaceError(e.to_string());
    // Listening first: what changes while all is read is read again.
    let (listening, _, mut messages) =
        rtnetlink::new_multicast_connection(GROUPS).map_err(failed)?;
    let (asking, handle, _) = rtnetlink::new_connection().map_err(failed)?;
    let stale = Stale::default();
    stale.add(ALL);
    let hear = async {
        // Each message is no more than a bit, so that they never pile up here.
        while let Some((message, _)) = messages.next().await {
            let what = concerns(&message.payload);
            if what & LINKS != 0 {
                host.links.notify_one();
            }
            if what != 0 {
                stale.add(what);
            }
        }
    };
    let read = async {
        let mut table = Table::default();
        loop {
            stale.told.notified().await;
            tokio::time::sleep(SETTLE).await;
            let what = stale.what.swap(0, Ordering::AcqRel);
            let begun = Instant::now();
            read(&handle, what, &mut table).await?;
            host.set_table(table.clone());
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
    };
    let resolve = async {
        while let Some((device, ip)) = wanted.recv().await {
            if let Some(index) = host.index(&device) {
                ask(&handle, index, ip).await;
            }
        }
    };
    tokio::select! {
        () = listening => Ok(()),
        () = asking => Ok(()),
        () = hear => Ok(()),
        r = read => r,
        () = resolve => Ok(()),
    }
}

/// What has to be read again after a message of the kernel.
fn concerns(payload: &NetlinkPayload<RouteNetlinkMessage>) -> u8 {
    use RouteNetlinkMessage as M;
    match payload {
        NetlinkPayload::InnerMessage(m) => match m {
            // With an interface go its addresses and routes, and not every one of them is told of.
            M::NewLink(_) | M::DelLink(_) => LINKS | ADDRESSES | ROUTES | NEIGHBOURS,
            M::NewAddress(_) | M::DelAddress(_) => ADDRESSES | ROUTES,
            M::NewRoute(_) | M::DelRoute(_) => ROUTES,
            M::NewNeighbour(_) | M::DelNeighbour(_) => NEIGHBOURS,
            M::NewRule(_) | M::DelRule(_) => RULES,
            _ => 0,
        },
        NetlinkPayload::Overrun(_) => ALL,
        _ => 0,
    }
}

/// Reads some kinds anew.
async fn read(handle: &Handle, what: u8, table: &mut Table) -> Result<(), rtnetlink::Error> {
    if what & LINKS != 0 {
        let all = gather(handle.link().get().execute(), usize::MAX, Link::read);
        table.links = all.await?.into_iter().collect();
    }
    if what & ADDRESSES != 0 {
        let all = handle.address().get().execute();
        table.addresses = gather(all, usize::MAX, Address::read).await?;
    }
    if what & ROUTES != 0 {
        table.routes.clear();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let room = ROUTES_MAX.saturating_sub(table.routes.len());
            let all = gather(handle.route().get(request).execute(), room, Entry::read);
            // A host without IPv6 has no routes of it.
            match all.await {
                Err(_) if family == AddressFamily::Inet6 => {}
                all => table.routes.extend(all?),
            }
        }
    }
    if what & NEIGHBOURS != 0 {
        let all = handle.neighbours().get().execute();
        table.neighbours = gather(all, NEIGHBOURS_MAX, Neighbour::read).await?;
    }
    if what & RULES != 0 {
        table.marked.clear();
        for version in [IpVersion::V4, IpVersion::V6] {
            // Kernels without rules have none.
            let all = handle.rule().get(version).execute();
            let all = gather(all, ROUTES_MAX, Marked::read).await;
            table.marked.extend(all.unwrap_or_default());
        }
    }
    Ok(())
}

/// What is of use of a list, as far as there is room for it; the list is read to its end in any case.
async fn gather<M, T>(
    list: impl Stream<Item = Result<M, rtnetlink::Error>>,
    room: usize,
    read: impl Fn(&M) -> Option<T>,
) -> Result<Vec<T>, rtnetlink::Error> {
    let mut list = pin!(list);
    let mut out = Vec::new();
    let mut beyond = 0usize;
    while let Some(message) = list.try_next().await? {
        match read(&message) {
            Some(item) if out.len() < room => out.push(item),
            Some(_) => beyond += 1,
            None => {}
        }
    }
    if beyond > 0 {
        tracing::warn!(
            "{beyond} of the host's routes or neighbours are left out: {room} are looked at"
        );
    }
    Ok(out)
}

/// Has the kernel find a neighbour out, as if it had a packet for it (`NTF_USE`). What comes of it is told like any change.
async fn ask(handle: &Handle, link: u32, ip: IpAddr) {
    let asked = handle
        .neighbours()
        .add(link, ip)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace()
        .execute()
        .await;
    if let Err(e) = asked {
        tracing::debug!("the kernel does not look for neighbour {ip}: {e}");
    }
}
