//! What files say that an installation makes.

use std::path::Path;

/// Stands in all of them, so that they are known again.
pub const MADE_BY: &str = "Made by 'firn install'; 'firn uninstall' removes it.";

/// Settings of a new installation.
pub fn nix_conf(build_group: &str) -> String {
    format!(
        "# {MADE_BY}\n\
         # Users that builds run as are the members of this group; with no group they run as who starts them.\n\
         build-users-group = {build_group}\n\
         # Who may connect to the daemon, and who may do everything there.\n\
         allowed-users = *\n\
         trusted-users = root\n\
         # The commands of 'nix' that Nix calls experimental.\n\
         experimental-features = nix-command\n\
         # Caches to fetch from, with the keys that they sign with.\n\
         #substituters = https://cache.nixos.org\n\
         #trusted-public-keys = cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=\n"
    )
}

/// What shells read that take POSIX scripts: the programs, the user's profile and the machine's.
pub fn profile_sh(prefix: &Path) -> String {
    let bin = prefix.join("bin");
    format!(
        r#"# {MADE_BY}
# Programs of firn come first, before those of another Nix.
case "$PATH" in
  "{bin}":*) ;;
  *) PATH="{bin}:$PATH" ;;
esac
if [ -n "${{HOME-}}" ] && [ -z "${{__ETC_PROFILE_NIX_SOURCED-}}" ]; then
  __ETC_PROFILE_NIX_SOURCED=1
  firn_profile="$HOME/.nix-profile"
  if [ ! -e "$firn_profile" ] && [ -e "${{XDG_STATE_HOME-$HOME/.local/state}}/nix/profile" ]; then
    firn_profile="${{XDG_STATE_HOME-$HOME/.local/state}}/nix/profile"
  fi
  NIX_PROFILES="/nix/var/nix/profiles/default $firn_profile"
  PATH="{bin}:$firn_profile/bin:/nix/var/nix/profiles/default/bin:${{PATH#"{bin}":}}"
  XDG_DATA_DIRS="$firn_profile/share:/nix/var/nix/profiles/default/share:${{XDG_DATA_DIRS:-/usr/local/share:/usr/share}}"
  export NIX_PROFILES XDG_DATA_DIRS __ETC_PROFILE_NIX_SOURCED
  if [ -z "${{NIX_SSL_CERT_FILE-}}" ]; then
    for firn_file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
      if [ -r "$firn_file" ]; then
        NIX_SSL_CERT_FILE="$firn_file"
        export NIX_SSL_CERT_FILE
        break
      fi
    done
    unset firn_file
  fi
  unset firn_profile
fi
export PATH
"#,
        bin = bin.display()
    )
}

/// The same for fish.
pub fn profile_fish(prefix: &Path) -> String {
    let bin = prefix.join("bin");
    format!(
        r#"# {MADE_BY}
if set -q HOME; and not set -q __ETC_PROFILE_NIX_SOURCED
    set -gx __ETC_PROFILE_NIX_SOURCED 1
    set -l link "$HOME/.nix-profile"
    set -l state "$HOME/.local/state"
    set -q XDG_STATE_HOME; and set state "$XDG_STATE_HOME"
    if not test -e $link; and test -e "$state/nix/profile"
        set link "$state/nix/profile"
    end
    set -gx NIX_PROFILES "/nix/var/nix/profiles/default $link"
    set -gx PATH "$link/bin" /nix/var/nix/profiles/default/bin $PATH
    set -q XDG_DATA_DIRS; or set -gx XDG_DATA_DIRS /usr/local/share:/usr/share
    set -gx XDG_DATA_DIRS "$link/share:/nix/var/nix/profiles/default/share:$XDG_DATA_DIRS"
    if not set -q NIX_SSL_CERT_FILE
        for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem
            if test -r $file
                set -gx NIX_SSL_CERT_FILE $file
                break
            end
        end
    end
end
if test "$PATH[1]" != "{bin}"
    set -gx PATH "{bin}" $PATH
end
"#,
        bin = bin.display()
    )
}

/// How a file that shells read at their start reads another one.
pub fn source_sh(script: &Path) -> String {
    format!("if [ -r '{0}' ]; then . '{0}'; fi\n", script.display())
}

pub fn socket_unit() -> String {
    format!("# {MADE_BY}\n{}", include_str!("../../../contrib/systemd/nix-daemon.socket"))
}

pub fn service_unit(prefix: &Path) -> String {
    let text = include_str!("../../../contrib/systemd/nix-daemon.service");
    format!("# {MADE_BY}\n{}", text.replace("/usr/local", &prefix.to_string_lossy()))
}

pub fn tmpfiles() -> String {
    format!("# {MADE_BY}\n{}", include_str!("../../../contrib/systemd/nix-daemon.conf"))
}

/// What makes the unit of another Nix start firn's daemon.
pub fn drop_in(prefix: &Path) -> String {
    format!(
        "# {MADE_BY}\n[Service]\nExecStart=\nExecStart={}/bin/nix-daemon --daemon\nKillMode=process\nDelegate=yes\n",
        prefix.display()
    )
}
