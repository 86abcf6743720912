//! Certificates, caches and machines that build for us.

use super::Report;
use crate::context::Context;
use crate::substituters;
use firn_store::activity::SilentLogger;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As long as a person waits gladly.
const PATIENCE: Duration = Duration::from_secs(8);

pub fn look(context: &Context, report: &mut Report) {
    certificates(context, report);
    keys(context, report);
    caches(context, report);
    machines(context, report);
}

fn certificates(context: &Context, report: &mut Report) {
    let needed = context.settings.substituters.iter().any(|uri| uri.starts_with("https://"));
    let Some(file) = &context.settings.ssl_cert_file else {
        if needed {
            report.note(
                "no file of certificates was found",
                "install ca-certificates, or set NIX_SSL_CERT_FILE",
            );
        }
        return;
    };
    match std::fs::read_to_string(file) {
        Err(error) => report.bad(
            format!("the certificates in {} cannot be read: {error}", file.display()),
            "install ca-certificates, or set NIX_SSL_CERT_FILE to a file that is there",
        ),
        Ok(text) => match text.matches("BEGIN CERTIFICATE").count() {
            0 => report.bad(format!("{} has no certificates", file.display()), "install ca-certificates"),
            count => report.good(format!("{} has {count} certificates", file.display())),
        },
    }
}

fn keys(context: &Context, report: &mut Report) {
    match substituters::trust(&context.settings) {
        Err(error) => report
            .bad(error.to_string(), "keys are 'name:base64', as 'nix key convert-secret-to-public' prints"),
        Ok(trust)
            if trust.require_signatures
                && trust.keys.is_empty()
                && !context.settings.substituters.is_empty() =>
        {
            report.note(
                "no trusted-public-keys are set, so that nothing can be fetched from caches",
                "name the keys of the caches that you trust",
            );
        }
        Ok(_) => {}
    }
}

fn caches(context: &Context, report: &mut Report) {
    if !context.settings.substitute {
        return report.good("substitution is turned off");
    }
    // Once is enough to know, and what goes wrong is told in the report.
    let mut settings = (*context.settings).clone();
    settings.download_attempts = 1;
    let context = Context::for_connection(&context.program, settings, Arc::new(SilentLogger));
    for store in substituters::stores(&context) {
        let uri = store.uri();
        let started = Instant::now();
        let answer = context.block_on(async { tokio::time::timeout(PATIENCE, store.connect()).await });
        match answer {
            Ok(Ok(Ok(()))) => report.good(format!("{uri} answers in {} ms", started.elapsed().as_millis())),
            Ok(Ok(Err(error))) => {
                let reason = error.to_string();
                report.bad(
                    format!("{uri} does not answer: {}", reason.lines().next().unwrap_or_default()),
                    "is there a network or a proxy? take it out of 'substituters' if it is gone",
                );
            }
            Ok(Err(_)) => report.bad(
                format!("{uri} does not answer within {} seconds", PATIENCE.as_secs()),
                "is there a network or a proxy? 'connect-timeout' says how long builds wait for it",
            ),
            Err(error) => report.bad(error.to_string(), "see 'ulimit -a'"),
        }
    }
}

fn machines(context: &Context, report: &mut Report) {
    let settings = &context.settings;
    let machines = match firn_remote_build::parse_machines(&settings.builders, &settings.system) {
        Ok(machines) => machines,
        Err(error) => {
            return report.bad(format!("the setting 'builders': {error}"), "see docs/user/build-farm.md");
        }
    };
    for machine in machines {
        if let Some(key) = &machine.ssh_key {
            if let Err(error) = std::fs::File::open(Path::new(key)) {
                report.bad(
                    format!("the key '{key}' of the builder {} cannot be read: {error}", machine.uri),
                    "builds are started by the daemon, as root, who needs to read it",
                );
                continue;
            }
        }
        report.good(format!("the builder {} has {} slots (not connected to)", machine.uri, machine.max_jobs));
    }
}
