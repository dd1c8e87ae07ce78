//! A door between a client and the API server: TCP is passed on as it is until a test closes the door, which looks to the client like
//! an API server that went down.
//!
//! Must never read or change what passes through, which is encrypted anyway, and listens on loopback only.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use kube::Config;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ControlPlane;

/// A door that is open or closed. It passes nothing on once it is dropped.
pub struct Proxy {
    address: SocketAddr,
    server: String,
    door: watch::Sender<Door>,
    doorkeeper: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Door {
    open: bool,
    /// Tells a door that was closed and opened again from one that was open all the time.
    closings: u64,
}

impl Proxy {
    /// A door to the API server of this control plane.
    pub async fn to(plane: &ControlPlane, open: bool) -> anyhow::Result<Self> {
        let url = plane.config().cluster_url;
        let server = url.authority().context("the API server has no address")?.to_string();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (door, state) = watch::channel(Door { open, closings: 0 });
        let doorkeeper = tokio::spawn(keep(listener, server.clone(), state));
        Ok(Self { address, server, door, doorkeeper })
    }

    /// Lets connections through.
    pub fn open(&self) {
        self.door.send_modify(|door| door.open = true);
    }

    /// Ends all connections, and each new one at once.
    pub fn close(&self) {
        self.door.send_modify(|door| *door = Door { open: false, closings: door.closings + 1 });
    }

    /// The configuration of a client with all rights that goes through this door.
    pub fn config(&self, plane: &ControlPlane) -> anyhow::Result<Config> {
        let mut config = plane.config();
        config.cluster_url = format!("https://{}", self.address).parse()?;
        Ok(config)
    }

    /// Writes a kubeconfig file for programs that go through this door.
    pub fn write_kubeconfig(&self, plane: &ControlPlane, file: &Path) -> anyhow::Result<()> {
        let direct = fs::read_to_string(plane.kubeconfig_path())?;
        anyhow::ensure!(direct.contains(&self.server), "{} is not in the kubeconfig", self.server);
        Ok(fs::write(file, direct.replace(&self.server, &self.address.to_string()))?)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.doorkeeper.abort();
    }
}

async fn keep(listener: TcpListener, server: String, door: watch::Receiver<Door>) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, mut door) = (server.clone(), door.clone());
        let Door { open, closings } = *door.borrow();
        if open {
            tokio::spawn(async move {
                tokio::select! {
                    () = pass(client, &server) => {}
                    _ = door.wait_for(|door| door.closings != closings) => {}
                }
            });
        }
    }
}

/// Passes on until one side ends; an error on one side is an end for the other.
pub(crate) async fn pass(mut client: TcpStream, server: &str) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
