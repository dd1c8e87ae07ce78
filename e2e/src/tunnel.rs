//! A way into the network namespace of a node, which has no other: what connects to a port on loopback out here comes out in there.
//!
//! Must never listen elsewhere than on loopback, or let anything out of the namespace.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::{io, thread};

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::process::Process;
use crate::proxy::pass;

/// A tunnel to one address, closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    entrance: SocketAddr,
    _close: oneshot::Sender<()>,
}

impl Tunnel {
    /// A tunnel into the network namespace of this process, to this address in there.
    pub(crate) fn dig(process: Process, exit: SocketAddr) -> anyhow::Result<Self> {
        let namespace = format!("/proc/{}/ns/net", process.id());
        let namespace = File::open(&namespace).with_context(|| format!("{namespace} cannot be opened"))?;
        // A socket belongs to the namespace that it was made in, so this one stays out here.
        let entrance = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        entrance.set_nonblocking(true)?;
        let (close, closed) = oneshot::channel();
        let tunnel = Self { entrance: entrance.local_addr()?, _close: close };

        let (report, entered) = std::sync::mpsc::channel();
        // A thread of its own, because a namespace is entered thread by thread; all connections are made on it.
        thread::spawn(move || match enter(&namespace) {
            Err(error) => drop(report.send(Err(error))),
            Ok(runtime) => {
                // Nobody may be waiting any more: then the tunnel is closed, too.
                let _ = report.send(Ok(()));
                runtime.block_on(async {
                    tokio::select! {
                        _ = closed => {}
                        () = serve(entrance, exit) => {}
                    }
                });
            }
        });
        entered.recv()?.context("could not enter the network namespace of the node")?;
        Ok(tunnel)
    }

    /// Where to connect to.
    pub(crate) fn entrance(&self) -> SocketAddr {
        self.entrance
    }
}

fn enter(namespace: &File) -> io::Result<tokio::runtime::Runtime> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()
}

async fn serve(entrance: TcpListener, exit: SocketAddr) {
    let Ok(entrance) = tokio::net::TcpListener::from_std(entrance) else { return };
    while let Ok((client, _)) = entrance.accept().await {
        tokio::spawn(async move { pass(client, &exit.to_string()).await });
    }
}
