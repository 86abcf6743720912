//! Who may connect, and who is trusted.

use firn_settings::Settings;
use nix::unistd::{Gid, Group, Uid, User};
use std::os::fd::AsFd;

/// Who is at the other end of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub pid: Option<i32>,
    /// The user's name, or number where it has none.
    pub user: String,
    /// The same for the primary group.
    pub group: String,
}

impl Peer {
    /// Asks the kernel.
    pub fn of(socket: impl AsFd) -> std::io::Result<Peer> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        let (uid, gid) = (credentials.uid.as_raw(), credentials.gid.as_raw());
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        Ok(Peer {
            pid: Some(credentials.pid.as_raw_nonzero().get()),
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
            group: group.map_or_else(|| gid.to_string(), |group| group.name),
        })
    }
}

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Trusted,
    Untrusted,
    Refused,
}

/// Settings that decide.
#[derive(Debug, Clone)]
pub struct Policy {
    pub trusted_users: Vec<String>,
    pub allowed_users: Vec<String>,
    pub build_users_group: String,
    /// Whatever the credentials.
    pub force: Option<bool>,
}

impl Policy {
    pub fn new(settings: &Settings, force: Option<bool>) -> Policy {
        Policy {
            trusted_users: settings.trusted_users.clone(),
            allowed_users: settings.allowed_users.clone(),
            build_users_group: settings.build_users_group.clone(),
            force,
        }
    }

    pub fn judge(&self, peer: &Peer) -> Verdict {
        self.judge_with(peer, &|group| {
            let group = Group::from_name(group).ok().flatten();
            group.map(|group| group.mem).unwrap_or_default()
        })
    }

    fn judge_with(&self, peer: &Peer, members: &dyn Fn(&str) -> Vec<String>) -> Verdict {
        if let Some(trusted) = self.force {
            return if trusted { Verdict::Trusted } else { Verdict::Untrusted };
        }
        // A builder must not talk to the daemon that runs it.
        if !self.build_users_group.is_empty() && peer.group == self.build_users_group {
            return Verdict::Refused;
        }
        if matches(peer, &self.trusted_users, members) {
            Verdict::Trusted
        } else if matches(peer, &self.allowed_users, members) {
            Verdict::Untrusted
        } else {
            Verdict::Refused
        }
    }
}

/// Whether a list of `user`, `@group` and `*` means the peer.
fn matches(peer: &Peer, list: &[String], members: &dyn Fn(&str) -> Vec<String>) -> bool {
    list.iter().any(|entry| match entry.strip_prefix('@') {
        Some(group) => *group == peer.group || members(group).contains(&peer.user),
        None => entry == "*" || *entry == peer.user,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trusted: &str, allowed: &str, user: &str, group: &str, expected: Verdict) {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let policy = Policy {
            trusted_users: list(trusted),
            allowed_users: list(allowed),
            build_users_group: "builders".into(),
            force: None,
        };
        let peer = Peer { pid: None, user: user.into(), group: group.into() };
        let members = |group: &str| match group {
            "wheel" => vec!["anna".to_owned()],
            _ => Vec::new(),
        };
        assert_eq!(policy.judge_with(&peer, &members), expected);
    }

    #[test]
    fn verdicts() {
        check("root", "*", "root", "root", Verdict::Trusted);
        check("root", "*", "anna", "anna", Verdict::Untrusted);
        check("root @wheel", "*", "anna", "anna", Verdict::Trusted);
        check("root @staff", "*", "bert", "staff", Verdict::Trusted);
        check("root", "@wheel", "anna", "anna", Verdict::Untrusted);
        check("root", "@wheel bert", "carl", "carl", Verdict::Refused);
        check("root", "", "anna", "anna", Verdict::Refused);
        check("*", "", "anna", "anna", Verdict::Trusted);
        check("root", "*", "b1", "builders", Verdict::Refused);
    }
}
