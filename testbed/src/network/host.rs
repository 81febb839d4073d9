//! A machine of the testbed: a namespace with an address and one link to the switch.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::lifetime::Lifetime;
use crate::network::link::{InterfaceBytes, LinkRate};
use crate::network::namespace::{Namespace, output_of, run};
use crate::processes::deadline::wait_until;

const HOST_DEVICE: &str = "eth0";
const PREFIX_LENGTH: u8 = 16;

/// One machine of the testbed.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    directory: PathBuf,
    namespace: Namespace,
    switch: Namespace,
    switch_port: String,
    lifetime: Lifetime,
}

/// What a new host is to be.
pub(crate) struct HostPlan<'a> {
    pub(crate) testbed: &'a str,
    pub(crate) name: &'a str,
    pub(crate) number: u16,
    pub(crate) directory: PathBuf,
    pub(crate) switch: &'a Namespace,
    pub(crate) bridge: &'a str,
    pub(crate) lifetime: Lifetime,
}

impl Host {
    pub(crate) fn create(plan: HostPlan<'_>) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{}", plan.testbed, plan.name))?;
        let switch_port = format!("p{}", plan.number);
        let [high, low] = plan.number.to_be_bytes();
        let address = Ipv4Addr::new(10, 77, high, low);
        let (inside, switch) = (namespace.name(), plan.switch.name());
        #[rustfmt::skip]
        run("ip", &[
            "link", "add", HOST_DEVICE, "netns", inside, "type", "veth",
            "peer", "name", &switch_port, "netns", switch,
        ])?;
        #[rustfmt::skip]
        run("ip", &["-n", switch, "link", "set", &switch_port, "master", plan.bridge, "up"])?;
        let cidr = format!("{address}/{PREFIX_LENGTH}");
        #[rustfmt::skip]
        run("ip", &["-n", inside, "addr", "add", &cidr, "dev", HOST_DEVICE])?;
        run("ip", &["-n", inside, "link", "set", HOST_DEVICE, "up"])?;
        std::fs::create_dir_all(&plan.directory)
            .with_context(|| format!("cannot create {}", plan.directory.display()))?;
        Ok(Self {
            name: plan.name.to_owned(),
            address,
            directory: plan.directory,
            namespace,
            switch: plan.switch.clone(),
            switch_port,
            lifetime: plan.lifetime,
        })
    }

    /// The host's name within the testbed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's address; all hosts share one network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The host's own directory for data and logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Holds the host's link to `rate`, each way on its own.
    ///
    /// # Errors
    /// `tc` refuses.
    pub fn shape(&self, rate: LinkRate) -> Result<()> {
        rate.shape(&self.namespace, HOST_DEVICE)?;
        rate.shape(&self.switch, &self.switch_port)
    }

    /// Bytes over the host's link so far.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn interface_bytes(&self) -> Result<InterfaceBytes> {
        InterfaceBytes::read(&self.namespace, HOST_DEVICE)
    }

    /// A command that runs on this host and that the caller waits for.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.namespace.enter();
        command.arg("--").arg(program.as_ref());
        command
    }

    /// A command for a program that serves until it is stopped: it dies with the thread that
    /// starts it, unless the testbed is to outlive its process.
    pub fn service(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.namespace.enter();
        command.arg("--");
        if self.lifetime == Lifetime::Process {
            command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        }
        command.arg(program.as_ref());
        command
    }

    /// A connection from this host, used by this process.
    ///
    /// # Errors
    /// Nothing listens at `to`.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        let connect = || -> Result<TcpStream> {
            let namespace = File::open(self.namespace.path()).context("no namespace")?;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).context("cannot enter")?;
            let stream = TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        // A socket stays in the namespace that it was made in; the thread that entered it is used up.
        let connected = std::thread::scope(|scope| scope.spawn(connect).join());
        let connected = connected.map_err(|_| anyhow!("the thread that connects panicked"))?;
        connected.with_context(|| format!("cannot connect from {} to {to}", self.name))
    }

    /// The name of the host's network namespace, for `nsenter --net=/var/run/netns/NAME`.
    pub fn namespace_name(&self) -> &str {
        self.namespace.name()
    }

    /// Waits until no client is connected to `port` of this host, so that logs are complete.
    ///
    /// # Errors
    /// Still connected at the deadline.
    pub fn wait_disconnected(&self, port: u16, deadline: Duration) -> Result<()> {
        let what = format!("port {port} of {}: all connections closed", self.name);
        let filter = format!("sport = :{port}");
        wait_until(&what, deadline, || {
            let mut list = self.command("ss");
            list.args(["-Htn", "state", "established", &filter]);
            Ok(output_of(&mut list)?.trim().is_empty().then_some(()))
        })
    }
}
