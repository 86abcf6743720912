//! Stores behind a connection give the answers that every store must give.

use firn_core::StoreDir;
use firn_store::SubstituterProperties;
use firn_store::activity::{Logger, SilentLogger};
use firn_store_remote::{
    MasterSlot, RemoteConfig, RemoteStore, ServeConfig, ServeStore, SshCommand, SshConnector, SshTarget,
    UnixConnector,
};
use firn_testkit::conformance::{Lacks, check_store};
use firn_testkit::{Make, World};
use firn_wire::serve::BuildOptions;
use std::sync::Arc;
use std::time::Duration;

fn run(store: &dyn firn_store::Store, lacks: Lacks) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(check_store(store, lacks));
}

fn dir(world: &World) -> StoreDir {
    StoreDir::new(world.path("store").to_str().unwrap())
}

fn config(world: &World, uri: &str) -> RemoteConfig {
    RemoteConfig {
        dir: dir(world),
        uri: uri.to_owned(),
        properties: SubstituterProperties::default(),
        options: None,
        max_connections: 3,
        max_connection_age: Duration::from_secs(100),
        local: None,
        cache: true,
        keep_going: false,
    }
}

fn logger() -> Arc<dyn Logger> {
    Arc::new(SilentLogger)
}

/// Runs a program of the world for each connection, as `ssh` would at the other end.
fn program(world: &World, program: &str, arguments: &[&str]) -> SshConnector {
    let command = world.command(program);
    let mut words = vec!["/usr/bin/env".to_owned()];
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_str().unwrap(), value.to_str().unwrap()));
        }
    }
    words.push(command.get_program().to_str().unwrap().to_owned());
    words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    SshConnector {
        command: SshCommand {
            target: SshTarget::parse("localhost").unwrap(),
            key: None,
            host_key: None,
            compress: false,
            options: Vec::new(),
            program: words,
            verbose: false,
        },
        log: None,
        logger: logger(),
        use_master: false,
        master: MasterSlot::default(),
    }
}

#[test]
fn daemon() {
    let world = World::new();
    let _daemon = world.start_daemon(Make::Firn, &[]);
    let connector = UnixConnector { path: world.socket() };
    run(&RemoteStore::new(config(&world, "daemon"), Box::new(connector), logger()), Lacks::default());
}

#[test]
fn daemon_of_the_reference() {
    if !firn_testkit::has_reference() {
        return;
    }
    let world = World::new();
    let _daemon = world.start_daemon(Make::Reference, &[]);
    let connector = UnixConnector { path: world.socket() };
    run(&RemoteStore::new(config(&world, "daemon"), Box::new(connector), logger()), Lacks::default());
}

#[test]
fn worker_protocol_through_a_program() {
    let world = World::new();
    let connector = program(&world, "nix-daemon", &["--stdio"]);
    let store = RemoteStore::new(config(&world, "ssh-ng://localhost"), Box::new(connector), logger());
    run(&store, Lacks::default());
}

#[test]
fn serve_protocol() {
    let world = World::new();
    let connector = program(&world, "nix-store", &["--serve", "--write"]);
    let config = ServeConfig {
        dir: dir(&world),
        uri: "ssh://localhost".to_owned(),
        host: "localhost".to_owned(),
        properties: SubstituterProperties::default(),
        max_connections: 3,
        options: BuildOptions {
            max_silent_time: 0,
            build_timeout: 0,
            max_log_size: 0,
            repeats: 0,
            enforce_determinism: false,
            keep_failed: false,
        },
    };
    let lacks = Lacks {
        referrers: true,
        listing: true,
        signatures: true,
        hash_parts: true,
        reasons: true,
        ..Lacks::default()
    };
    run(&ServeStore::new(config, Box::new(connector)), lacks);
}
